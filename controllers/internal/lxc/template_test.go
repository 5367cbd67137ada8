package lxc

import "testing"

func TestTemplateSources(t *testing.T) {
	templates := Templates{Sources: []TemplateSource{
		{Name: "base", URL: "https://example.org/x/base-3.tar.xz", SHA512: "ABCDEF0123456789"},
		{Name: "tiny", URL: "https://example.org/tiny.tar.gz", SHA512: "00112233445566"},
	}}
	for _, tt := range []struct {
		want, file string
		matches    bool
	}{
		{"base", "base_abcdef012345.tar.xz", true},
		{"base", "base_abcdef012346.tar.xz", false}, // another content of that name
		{"base", "base-standard_1_amd64.tar.zst", false},
		{"tiny", "tiny_001122334455.tar.gz", true},
		{"debian-12", "debian-12-standard_12.7-1_amd64.tar.zst", true},
		{"debian-12", "debian-11-standard_11.7-1_amd64.tar.zst", false},
	} {
		source, matches := templates.find(tt.want)
		if got := matches(tt.file); got != tt.matches {
			t.Errorf("template %s is file %s: %v", tt.want, tt.file, got)
		}
		if source != nil && tt.matches && source.file() != tt.file {
			t.Errorf("source %s is fetched as %s, looked for as %s", tt.want, source.file(), tt.file)
		}
	}
}
