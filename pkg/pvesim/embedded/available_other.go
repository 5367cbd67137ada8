//go:build unix && !linux

package embedded

func availableLXC(string) string { return "LXC guests need Linux" }
