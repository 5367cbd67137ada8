package daemon

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/proximity-pve/proximity/pkg/apply"
	"github.com/proximity-pve/proximity/pkg/privatefile"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/seal"
	"github.com/proximity-pve/proximity/pkg/store"
)

// keyFile is where, in the data directory, the key of sealed values is.
const keyFile = "secrets.key"

// sealingKeys finds or makes the key of sealed values. A daemon whose database has values
// that the key cannot open does not start: it would say of each Secret that it is lost.
func sealingKeys(ctx context.Context, cfg Config, st store.Store, reg *resource.Registry) (*seal.Keyring, error) {
	needed, err := apply.KeysInUse(reg, func(kind string) ([]resource.Object, error) {
		snap, err := st.List(ctx, kind, store.ListOptions{})
		return snap.Items, err
	})
	if err != nil {
		return nil, err
	}
	from, err := keySource(cfg, os.Getenv("CREDENTIALS_DIRECTORY"))
	if err != nil {
		return nil, err
	}
	return seal.EnsureKeysFrom(from, needed)
}

// passphraseCredential is the systemd credential with the passphrase of the key file.
const passphraseCredential = "secrets.passphrase"

// keySource says where the key is: in a systemd credential secrets.key, or in the file that
// the configuration names, or in the data directory; with a passphrase if there is one, in a
// credential or in a file.
func keySource(cfg Config, credentials string) (seal.Source, error) {
	from := seal.Source{Path: cmp.Or(cfg.Secrets.KeyFile, filepath.Join(cfg.DataDir, keyFile))}
	passphrase := cfg.Secrets.PassphraseFile
	if credentials != "" {
		if path := filepath.Join(credentials, keyFile); exists(path) && cfg.Secrets.KeyFile == "" {
			from.Path, from.ReadOnly = path, true
		}
		if path := filepath.Join(credentials, passphraseCredential); exists(path) && passphrase == "" {
			passphrase = path
		}
	}
	if passphrase == "" {
		return from, nil
	}
	text, err := privatefile.ReadPrivate(passphrase)
	if err != nil {
		return from, fmt.Errorf("passphrase of the key of sealed values: %w", err)
	}
	if from.Passphrase = bytes.TrimRight(text, "\r\n"); len(from.Passphrase) < minPassphrase {
		return from, fmt.Errorf("passphrase of the key of sealed values: %s has %d bytes, allowed are %d or more", passphrase, len(from.Passphrase), minPassphrase)
	}
	return from, nil
}

// minPassphrase in bytes: it is all that protects a stolen key file.
const minPassphrase = 12

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
