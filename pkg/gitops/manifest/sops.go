package manifest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

const sopsKey = "sops"

// sopsMeta is what sops notes about a file, as far as it matters to open it.
type sopsMeta struct {
	Age []struct {
		Enc string `yaml:"enc"`
	} `yaml:"age"`
	KeyGroups        []any  `yaml:"key_groups"`
	MAC              string `yaml:"mac"`
	LastModified     string `yaml:"lastmodified"`
	MACOnlyEncrypted bool   `yaml:"mac_only_encrypted"`
}

// macOnlyEncrypted begins the MAC of files in which it covers encrypted values only: the
// SHA-256 of "sops".
var macOnlyEncrypted = []byte{
	0x8a, 0x3f, 0xd2, 0xad, 0x54, 0xce, 0x66, 0x52, 0x7b, 0x10, 0x34, 0xf3, 0xd1, 0x47, 0xbe, 0x0b,
	0x0b, 0x97, 0x5b, 0x3b, 0xf4, 0x4f, 0x72, 0xc6, 0xfd, 0xad, 0xec, 0x81, 0x76, 0xf2, 0x7d, 0x69,
}

var sealedValue = regexp.MustCompile(`^ENC\[AES256_GCM,data:([^,]*),iv:([^,]+),tag:([^,]+),type:([a-z0-9]+)\]$`)

// openSOPS opens the documents of a file that sops encrypted, in place, and tells whether it
// was one. Sops notes the same about each document of a file, and its MAC is over all.
func openSOPS(nodes []*yaml.Node, keys *Keys) (bool, error) {
	var about *yaml.Node
	for _, n := range nodes {
		if m := child(n, sopsKey); m != nil {
			about = m
		}
	}
	if about == nil {
		return false, nil
	}
	var meta sopsMeta
	if err := about.Decode(&meta); err != nil {
		return true, errors.New("what sops notes about the file cannot be read")
	}
	key, err := meta.dataKey(keys)
	if err != nil {
		return true, err
	}
	o := &sopsOpener{gcm: key, mac: sha512.New(), only: meta.MACOnlyEncrypted}
	if o.only {
		o.mac.Write(macOnlyEncrypted)
	}
	for _, n := range nodes {
		drop(n, sopsKey)
		if err := o.walk(n, nil); err != nil {
			return true, err
		}
	}
	return true, o.check(meta)
}

// drop removes a key of a mapping.
func drop(n *yaml.Node, key string) {
	if n.Kind != yaml.MappingNode {
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			n.Content = append(n.Content[:i:i], n.Content[i+2:]...)
			return
		}
	}
}

func (m sopsMeta) dataKey(keys *Keys) ([]byte, error) {
	switch {
	case keys == nil:
		return nil, errNoKeys
	case len(m.KeyGroups) > 0:
		return nil, errors.New("it is encrypted by sops with key groups, which are not known here; use age recipients alone")
	case len(m.Age) == 0:
		return nil, errors.New("it is encrypted by sops for other keys than those of age, which are not known here; add an age recipient")
	}
	var last error
	for _, a := range m.Age {
		key, err := keys.open([]byte(a.Enc))
		if err == nil && len(key) == 32 {
			return key, nil
		}
		if last = err; err == nil {
			last = errors.New("the key of the file has not 32 bytes")
		}
	}
	return nil, last
}

type sopsOpener struct {
	gcm  []byte
	mac  hash.Hash
	only bool
}

// walk opens the values of a tree, in order; the path is of keys alone, lists add nothing.
func (o *sopsOpener) walk(n *yaml.Node, path []string) error {
	if len(path) > maxDepth {
		return errors.New("it is nested too deeply")
	}
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			if err := o.walk(n.Content[i+1], append(path[:len(path):len(path)], n.Content[i].Value)); err != nil {
				return err
			}
		}
	case yaml.SequenceNode:
		for _, c := range n.Content {
			if err := o.walk(c, path); err != nil {
				return err
			}
		}
	case yaml.AliasNode:
		return fmt.Errorf("line %d: an alias in a file of sops, which writes none", n.Line)
	case yaml.ScalarNode:
		return o.scalar(n, path)
	}
	return nil
}

func (o *sopsOpener) scalar(n *yaml.Node, path []string) error {
	if n.ShortTag() == "!!null" {
		return nil
	}
	m := sealedValue.FindStringSubmatch(n.Value)
	if m == nil {
		if !o.only {
			o.mac.Write(macBytes(n))
		}
		return nil
	}
	plain, err := openValue(o.gcm, m, strings.Join(path, ":")+":")
	if err != nil {
		return fmt.Errorf("line %d: %w", n.Line, err)
	}
	n.Style, n.Value = 0, plain
	switch m[4] {
	case "str", "bytes":
		n.Tag, n.Style = "!!str", yaml.DoubleQuotedStyle
	case "int", "int64":
		n.Tag = "!!int"
	case "float":
		n.Tag = "!!float"
	case "bool":
		n.Tag, n.Value = "!!bool", strings.ToLower(plain)
	default:
		return fmt.Errorf("line %d: a value of the unknown type %s", n.Line, m[4])
	}
	o.mac.Write([]byte(plain))
	return nil
}

// macBytes is a value that is not encrypted, as the MAC has it.
func macBytes(n *yaml.Node) []byte {
	var v any
	if err := n.Decode(&v); err != nil {
		return []byte(n.Value)
	}
	switch v := v.(type) {
	case bool:
		if v {
			return []byte("True")
		}
		return []byte("False")
	case int:
		return []byte(strconv.Itoa(v))
	case float64:
		return []byte(strconv.FormatFloat(v, 'f', -1, 64))
	case time.Time:
		return []byte(v.Format(time.RFC3339))
	case string:
		return []byte(v)
	}
	return []byte(n.Value)
}

var errDamaged = errors.New("an encrypted value is damaged, or was moved from another place")

// openValue opens a value: AES-256-GCM, with its place as additional data.
func openValue(key []byte, parts []string, place string) (string, error) {
	data, err1 := base64.StdEncoding.DecodeString(parts[1])
	iv, err2 := base64.StdEncoding.DecodeString(parts[2])
	tag, err3 := base64.StdEncoding.DecodeString(parts[3])
	if err1 != nil || err2 != nil || err3 != nil || len(iv) == 0 || len(iv) > 64 || len(tag) != aes.BlockSize {
		return "", errDamaged
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return "", errDamaged
	}
	gcm, err := cipher.NewGCMWithNonceSize(block, len(iv))
	if err != nil {
		return "", errDamaged
	}
	plain, err := gcm.Open(nil, iv, append(data, tag...), []byte(place))
	if err != nil {
		return "", errDamaged
	}
	return string(plain), nil
}

// check compares the MAC, which is itself encrypted.
func (o *sopsOpener) check(meta sopsMeta) error {
	m := sealedValue.FindStringSubmatch(meta.MAC)
	if m == nil {
		return errors.New("it has no MAC: it was not written by sops, or was changed since")
	}
	want, err := openValue(o.gcm, m, meta.LastModified)
	if err != nil {
		return fmt.Errorf("its MAC: %w", err)
	}
	if got := fmt.Sprintf("%X", o.mac.Sum(nil)); subtle.ConstantTimeCompare([]byte(got), []byte(want)) != 1 {
		return errors.New("its values are not those that sops wrote: change them with sops")
	}
	return nil
}
