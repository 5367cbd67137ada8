// Command gen makes methods/<area>.json: it takes the methods that the simulator serves
// (served/<area>.txt, METHOD PATH a line) from a dump of the Proxmox VE API viewer and
// keeps only what validation needs (types, formats, limits, permissions), none of the
// documentation. After a change of a list run
//
//	go run ./pkg/pvesim/pveschema/gen -in <dump> -dir pkg/pvesim/pveschema
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

func main() {
	in := flag.String("in", "", "dump: a JSON list of methods with path, method, parameters, permissions")
	dir := flag.String("dir", ".", "directory of served/ and methods/")
	flag.Parse()
	if err := run(*in, filepath.Join(*dir, "served"), filepath.Join(*dir, "methods")); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

// run makes one file of methods for each list.
func run(in, served, out string) error {
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
	lists, err := filepath.Glob(filepath.Join(served, "*.txt"))
	if err != nil {
		return err
	}
	for _, list := range lists {
		text, err := area(list, byName)
		if err != nil {
			return fmt.Errorf("%s: %w", list, err)
		}
		name := strings.TrimSuffix(filepath.Base(list), ".txt") + ".json"
		if err := os.WriteFile(filepath.Join(out, name), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// area writes the methods of one list, one a line.
func area(list string, byName map[string]map[string]any) ([]byte, error) {
	wanted, err := readServed(list)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.WriteString("[\n")
	for i, name := range wanted {
		m, ok := byName[name]
		if !ok {
			return nil, fmt.Errorf("%s is not in the dump", name)
		}
		line, err := json.Marshal(trim(m))
		if err != nil {
			return nil, err
		}
		b.Write(line)
		if i < len(wanted)-1 {
			b.WriteByte(',')
		}
		b.WriteByte('\n')
	}
	b.WriteString("]\n")
	return b.Bytes(), nil
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
	if m["allowtoken"] == float64(0) {
		out["needsTicket"] = true
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
		if items, ok := s["items"].(map[string]any); ok {
			kept["items"] = strip(map[string]any{"": items}).(map[string]any)[""]
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
