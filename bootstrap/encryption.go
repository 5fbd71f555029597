package bootstrap

import (
	"context"

	"sampan/cluster/api"
	"sampan/cluster/encrypt"
	"sampan/cluster/store"
)

// transformer is what encrypts stored objects, nil if nothing is to be.
func (r *running) transformer(ctx context.Context) (store.Transformer, error) {
	cfg := r.cfg.Encryption
	if cfg.File == "" {
		return nil, nil
	}
	cfg.Log, cfg.Metrics = r.log, r.metrics
	var err error
	if r.encryption, err = encrypt.Open(ctx, cfg); err != nil {
		return nil, err
	}
	return r.encryption, nil
}

// encryptionParts keep the keys of key management plugins fresh.
func (r *running) encryptionParts() []part {
	if r.encryption == nil {
		return nil
	}
	return []part{{"encryption", func(ctx context.Context) error {
		r.encryption.Run(ctx)
		return nil
	}}}
}

// checks are the lines of /livez and /readyz.
func (r *running) checks() []api.Check {
	all := []api.Check{{Name: "etcd", Live: true, Run: func(ctx context.Context) error {
		_, err := r.store.Sync(ctx)
		return err
	}}}
	if r.encryption != nil && r.encryption.UsesPlugin() {
		all = append(all, api.Check{Name: "kms-providers", Live: true, Run: r.encryption.Check})
	}
	return all
}
