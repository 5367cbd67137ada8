// Command gen makes methods.json: it takes the methods that the simulator serves from
// a dump of the Proxmox VE API viewer and keeps only what validation needs (types,
// formats, limits, permissions), none of the documentation.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
)

func main() {
	in := flag.String("in", "", "dump: a JSON list of methods with path, method, parameters, permissions")
	served := flag.String("served", "served.txt", "list of methods, METHOD PATH a line")
	out := flag.String("out", "methods.json", "output")
	flag.Parse()
	if err := run(*in, *served, *out); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run(in, served, out string) error {
	wanted, err := readServed(served)
	if err != nil {
		return err
	}
	raw, err := os.ReadFile(in)
	if err != nil {
		return err
	}
	var methods []map[string]any
	if err := json.Unmarshal(raw, &methods); err != nil {
		return fmt.Errorf("%s: %w", in, err)
	}
	byName := map[string]map[string]any{}
	for _, m := range methods {
		byName[fmt.Sprintf("%v %v", m["method"], m["path"])] = m
	}
	var b bytes.Buffer
	b.WriteString("[\n")
	for i, name := range wanted {
		m, ok := byName[name]
		if !ok {
			return fmt.Errorf("%s is not in %s", name, in)
		}
		line, err := json.Marshal(trim(m))
		if err != nil {
			return err
		}
		b.Write(line)
		if i < len(wanted)-1 {
			b.WriteByte(',')
		}
		b.WriteByte('\n')
	}
	b.WriteString("]\n")
	return os.WriteFile(out, b.Bytes(), 0o644)
}

func readServed(name string) ([]string, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var list []string
	for s := bufio.NewScanner(f); s.Scan(); {
		if line := strings.TrimSpace(s.Text()); line != "" && !strings.HasPrefix(line, "#") {
			list = append(list, line)
		}
	}
	return list, nil
}

func trim(m map[string]any) map[string]any {
	out := map[string]any{"method": m["method"], "path": m["path"], "parameters": strip(m["parameters"])}
	if p, ok := m["permissions"].(map[string]any); ok {
		delete(p, "description")
		out["permissions"] = p
	}
	return out
}

// strip removes documentation from every schema in the tree.
func strip(v any) any {
	obj, ok := v.(map[string]any)
	if !ok {
		return v
	}
	out := map[string]any{}
	for name, schema := range obj {
		s, ok := schema.(map[string]any)
		if !ok {
			continue
		}
		kept := map[string]any{}
		for _, key := range []string{"type", "optional", "enum", "pattern", "minimum", "maximum", "minLength", "maxLength", "requires", "default_key"} {
			if val, ok := s[key]; ok {
				kept[key] = val
			}
		}
		switch f := s["format"].(type) {
		case string:
			kept["format"] = f
		case map[string]any:
			kept["properties"] = strip(f)
		}
		out[name] = kept
	}
	return out
}
