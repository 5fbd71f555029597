package encrypt

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"

	"golang.org/x/crypto/nacl/secretbox"
)

var errShort = errors.New("the stored data was shorter than the required size")

// gcm is AES-GCM with a random nonce of 12 bytes in front. One key is good for
// some 200,000 writes a second for an hour (2^32), so it has to be rotated.
type gcm struct{ aead cipher.AEAD }

func newGCM(key []byte) (provider, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	return gcm{aead}, err
}

func (g gcm) seal(_ context.Context, key, data []byte) ([]byte, error) {
	n := g.aead.NonceSize()
	out := make([]byte, n, n+len(data)+g.aead.Overhead())
	rand.Read(out)
	return g.aead.Seal(out, out[:n], data, key), nil
}

func (g gcm) open(_ context.Context, key, stored []byte) ([]byte, bool, error) {
	n := g.aead.NonceSize()
	if len(stored) < n {
		return nil, false, errShort
	}
	data, err := g.aead.Open(nil, stored[:n], stored[n:], key)
	return data, false, err
}

// cbc is AES-CBC with a random vector in front and PKCS #7 padding. It does
// not authenticate, so a value can be moved or changed unnoticed.
type cbc struct{ block cipher.Block }

func newCBC(key []byte) (provider, error) {
	block, err := aes.NewCipher(key)
	return cbc{block}, err
}

func (c cbc) seal(_ context.Context, _, data []byte) ([]byte, error) {
	const n = aes.BlockSize
	pad := n - len(data)%n
	out := make([]byte, n+len(data)+pad)
	rand.Read(out[:n])
	copy(out[n:], data)
	for i := n + len(data); i < len(out); i++ {
		out[i] = byte(pad)
	}
	cipher.NewCBCEncrypter(c.block, out[:n]).CryptBlocks(out[n:], out[n:])
	return out, nil
}

func (c cbc) open(_ context.Context, _, stored []byte) ([]byte, bool, error) {
	const n = aes.BlockSize
	if len(stored) < n {
		return nil, false, errShort
	}
	vector, body := stored[:n], stored[n:]
	if len(body)%n != 0 {
		return nil, false, errors.New("the stored data is not a multiple of the block size")
	}
	errPadding := errors.New("invalid PKCS7 data (empty or not padded)")
	if len(body) == 0 {
		return nil, false, errPadding
	}
	data := make([]byte, len(body))
	cipher.NewCBCDecrypter(c.block, vector).CryptBlocks(data, body)
	pad := int(data[len(data)-1])
	if pad == 0 || pad > len(data) {
		return nil, false, errPadding
	}
	for _, b := range data[len(data)-pad:] {
		if int(b) != pad {
			return nil, false, errors.New("invalid padding on input")
		}
	}
	return data[:len(data)-pad], false, nil
}

// box is XSalsa20 and Poly1305 with a random nonce of 24 bytes in front.
type box struct{ key [32]byte }

func newSecretbox(key []byte) (provider, error) {
	if len(key) != 32 {
		return nil, fmt.Errorf("expected key size 32 for secretbox provider, got %v", len(key))
	}
	return &box{[32]byte(key)}, nil
}

func (b *box) seal(_ context.Context, _, data []byte) ([]byte, error) {
	var nonce [24]byte
	rand.Read(nonce[:])
	return secretbox.Seal(nonce[:], data, &nonce, &b.key), nil
}

func (b *box) open(_ context.Context, _, stored []byte) ([]byte, bool, error) {
	var nonce [24]byte
	if len(stored) < len(nonce)+secretbox.Overhead {
		return nil, false, errShort
	}
	copy(nonce[:], stored)
	data, ok := secretbox.Open(nil, stored[len(nonce):], &nonce, &b.key)
	if !ok {
		return nil, false, errors.New("output array was not large enough for encryption") // upstream's text: it was not made with this key
	}
	return data, false, nil
}

// seeded is AES-GCM with a key of its own for each value, derived from a seed
// and 32 random bytes that stand in front. The seed may be used without end.
// (KEP-3299, HKDF_SHA256_XNONCE_AES_GCM_SEED.)
type seeded struct{ seed []byte }

const seedSize = 32

func newSeeded(seed []byte) (provider, error) {
	if len(seed) < seedSize {
		return nil, fmt.Errorf("invalid seed length %d used for key generation", len(seed))
	}
	return seeded{seed}, nil
}

func (s seeded) derive(info []byte) (provider, error) {
	key, err := hkdf.Expand(sha256.New, s.seed, string(info), 32)
	if err != nil {
		return nil, fmt.Errorf("failed to KDF expand seed with info: %w", err)
	}
	return newGCM(key)
}

func (s seeded) seal(ctx context.Context, key, data []byte) ([]byte, error) {
	info := make([]byte, seedSize, seedSize+len(data)+64)
	rand.Read(info)
	one, err := s.derive(info)
	if err != nil {
		return nil, err
	}
	sealed, err := one.seal(ctx, key, data)
	return append(info, sealed...), err
}

func (s seeded) open(ctx context.Context, key, stored []byte) ([]byte, bool, error) {
	if len(stored) < seedSize {
		return nil, false, errShort
	}
	one, err := s.derive(stored[:seedSize])
	if err != nil {
		return nil, false, err
	}
	return one.open(ctx, key, stored[seedSize:])
}
