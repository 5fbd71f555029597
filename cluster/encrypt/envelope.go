package encrypt

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// envelope is what is stored of an object with a key of a plugin's: upstream's
// message EncryptedObject. (apiserver/pkg/storage/value/encrypt/envelope/kmsv2/v2/api.proto.)
type envelope struct {
	data        []byte // 1
	keyID       string // 2: of the plugin's key
	source      []byte // 3: what the data's key comes from, encrypted by the plugin
	annotations map[string][]byte
	sourceType  uint64 // 5
}

// What source is, when the plugin has decrypted it.
const (
	sourceKey  = 0 // AES_GCM_KEY: the key itself; upstream wrote that before 1.29
	sourceSeed = 1 // HKDF_SHA256_XNONCE_AES_GCM_SEED
)

// Bounds of what a plugin may say. (KEP-3299.)
const (
	maxKeyID       = 1 << 10
	maxSource      = 1 << 10
	maxAnnotations = 32 << 10
)

func (e *envelope) marshal() []byte {
	b := make([]byte, 0, len(e.data)+len(e.source)+len(e.keyID)+32)
	b = protowire.AppendTag(b, 1, protowire.BytesType)
	b = protowire.AppendBytes(b, e.data)
	b = protowire.AppendTag(b, 2, protowire.BytesType)
	b = protowire.AppendString(b, e.keyID)
	b = protowire.AppendTag(b, 3, protowire.BytesType)
	b = protowire.AppendBytes(b, e.source)
	for _, k := range slices.Sorted(maps.Keys(e.annotations)) {
		var entry []byte
		entry = protowire.AppendTag(entry, 1, protowire.BytesType)
		entry = protowire.AppendString(entry, k)
		entry = protowire.AppendTag(entry, 2, protowire.BytesType)
		entry = protowire.AppendBytes(entry, e.annotations[k])
		b = protowire.AppendTag(b, 4, protowire.BytesType)
		b = protowire.AppendBytes(b, entry)
	}
	if e.sourceType != 0 {
		b = protowire.AppendTag(b, 5, protowire.VarintType)
		b = protowire.AppendVarint(b, e.sourceType)
	}
	return b
}

// unmarshal reads what was stored, and checks it. It keeps no reference to b
// but for the data.
func unmarshal(b []byte) (*envelope, error) {
	e := &envelope{}
	err := fields(b, func(n protowire.Number, bytes []byte, number uint64) error {
		switch n {
		case 1:
			e.data = bytes
		case 2:
			e.keyID = string(bytes)
		case 3:
			e.source = slices.Clone(bytes)
		case 4:
			var key string
			var value []byte
			err := fields(bytes, func(n protowire.Number, bytes []byte, _ uint64) error {
				switch n {
				case 1:
					key = string(bytes)
				case 2:
					value = slices.Clone(bytes)
				}
				return nil
			})
			if err != nil {
				return err
			}
			if e.annotations == nil {
				e.annotations = map[string][]byte{}
			}
			e.annotations[key] = value
		case 5:
			e.sourceType = number
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return e, e.check()
}

// fields calls each for the fields of a message. bytes is set for those of
// type bytes, number for varints; what is of another type is unknown to us.
func fields(b []byte, each func(n protowire.Number, bytes []byte, number uint64) error) error {
	for len(b) > 0 {
		n, typ, used := protowire.ConsumeTag(b)
		if used < 0 {
			return protowire.ParseError(used)
		}
		b = b[used:]
		var bytes []byte
		var number uint64
		switch typ {
		case protowire.BytesType:
			bytes, used = protowire.ConsumeBytes(b)
		case protowire.VarintType:
			number, used = protowire.ConsumeVarint(b)
		default:
			used = protowire.ConsumeFieldValue(n, typ, b)
		}
		if used < 0 {
			return protowire.ParseError(used)
		}
		b = b[used:]
		if err := each(n, bytes, number); err != nil {
			return err
		}
	}
	return nil
}

// check says what upstream says of an envelope that cannot be.
func (e *envelope) check() error {
	if e.sourceType > sourceSeed {
		return fmt.Errorf("unknown encryptedDEKSourceType: %d", e.sourceType)
	}
	if len(e.data) == 0 {
		return errors.New("encrypted data is empty")
	}
	return e.checkSource()
}

// checkSource checks what a plugin has said.
func (e *envelope) checkSource() error {
	if len(e.source) == 0 {
		return errors.New("failed to validate encrypted DEK source: encrypted DEK source is empty")
	}
	if n := len(e.source); n > maxSource {
		return fmt.Errorf("failed to validate encrypted DEK source: encrypted DEK source is %d bytes, which exceeds the max size of %d", n, maxSource)
	}
	if err := checkKeyID(e.keyID); err != nil {
		return fmt.Errorf("failed to validate key id: %w", err)
	}
	var errs []error
	size := 0
	for k, v := range e.annotations {
		if why := validation.IsFullyQualifiedDomainName(field.NewPath("annotations"), k); len(why) > 0 {
			errs = append(errs, why.ToAggregate())
		}
		size += len(k) + len(v)
	}
	if size > maxAnnotations {
		errs = append(errs, fmt.Errorf("total size of annotations is %d, which exceeds the max size of %d", size, maxAnnotations))
	}
	if len(errs) > 0 {
		return fmt.Errorf("failed to validate annotations: %w", errors.Join(errs...))
	}
	return nil
}

func checkKeyID(id string) error {
	if id == "" {
		return errors.New("keyID is empty")
	}
	if len(id) > maxKeyID {
		return fmt.Errorf("keyID is %d bytes, which exceeds the max size of %d", len(id), maxKeyID)
	}
	return nil
}

// sourceID tells apart what a plugin would decrypt to different keys.
func (e *envelope) sourceID() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d/%d/%s%s", e.sourceType, len(e.keyID), e.keyID, e.source)
	for _, k := range slices.Sorted(maps.Keys(e.annotations)) {
		fmt.Fprintf(&b, "/%d/%d/%s%s", len(k), len(e.annotations[k]), k, e.annotations[k])
	}
	return b.String()
}
