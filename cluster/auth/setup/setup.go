// Package setup makes authenticators and rules of what an administrator
// configured by flags and files, and makes them again when a file changes. The
// flags have upstream's names, the files upstream's format
// (apiserver.config.k8s.io): AuthenticationConfiguration (KEP-3331) and
// AuthorizationConfiguration (KEP-3221).
//
// It neither authenticates nor authorizes anybody.
package setup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apiserver/pkg/apis/apiserver/install"

	"sampan/internal/fault"
	"sampan/internal/filewatch"
)

// load reads a configuration of any version that is served. What it does not
// know is an error.
func load[T any](path string, data []byte) (*T, error) {
	wrong := func(err error) error {
		return &fault.Error{Class: fault.Invalid, Op: "read configuration", On: path, Err: err}
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, wrong(errors.New("the file is empty"))
	}
	scheme := runtime.NewScheme() // made when it is needed: most programs never do
	install.Install(scheme)
	obj, err := runtime.Decode(serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDecoder(), data)
	if err != nil {
		return nil, wrong(err)
	}
	cfg, ok := any(obj).(*T)
	if !ok {
		return nil, wrong(fmt.Errorf("it has a %T, want a %T", obj, cfg))
	}
	return cfg, nil
}

// follow tries a configuration whenever its file has another content. One that
// is not good is logged, and what was before stays.
func follow(ctx context.Context, log *slog.Logger, path string, tried []byte, try func(data []byte) error) error {
	return filewatch.Follow(ctx, path, func() {
		data, err := os.ReadFile(path)
		if err != nil {
			log.Error("configuration not read; what was before stays", "file", path, "err", err)
			return
		}
		if bytes.Equal(data, tried) {
			return
		}
		tried = data
		if err := try(data); err != nil {
			log.Error("configuration not taken; what was before stays", "file", path, "err", err)
			return
		}
		log.Info("configuration taken", "file", path)
	})
}

func read(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, &fault.Error{Class: fault.Invalid, Op: "read configuration", On: path, Err: err}
	}
	return data, nil
}
