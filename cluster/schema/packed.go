package schema

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"sync"

	"github.com/klauspost/compress/flate"
)

// packed is text as blocks of a deflate stream (RFC 1951) that refer to nothing
// before them, and none of which is the last. So documents are put together
// out of packed parts, and sent in gzip's form, without anything being
// compressed again; and what is kept of a thousand schemas is small.
type packed struct {
	blocks []byte
	size   int // of the text
	sum    uint32
}

// packer packs. The zero value is ready; it is for one goroutine, and larger
// than what it makes.
type packer struct{ w *flate.Writer }

func (p *packer) pack(text []byte) (packed, error) {
	var out bytes.Buffer
	var err error
	if p.w == nil {
		p.w, err = flate.NewWriter(&out, 5)
	} else {
		p.w.Reset(&out)
	}
	if err == nil {
		_, err = p.w.Write(text)
	}
	if err == nil {
		err = p.w.Flush() // ends with an empty block, at a byte's border
	}
	return packed{bytes.Clone(out.Bytes()), len(text), crc32.ChecksumIEEE(text)}, err
}

// stored is short text as a block that is not compressed.
func stored(text []byte) packed {
	blocks := binary.LittleEndian.AppendUint16([]byte{0}, uint16(len(text)))
	blocks = binary.LittleEndian.AppendUint16(blocks, ^uint16(len(text)))
	return packed{append(blocks, text...), len(text), crc32.ChecksumIEEE(text)}
}

// last is the block that ends a stream. It is empty.
var last = []byte{1, 0, 0, 0xff, 0xff}

// Document is a text in parts. It does not change.
type Document struct {
	parts []packed
	size  int
}

func (d *Document) add(parts ...packed) {
	for _, p := range parts {
		if p.size > 0 {
			d.parts = append(d.parts, p)
			d.size += p.size
		}
	}
}

// text adds what is not worth being compressed.
func (d *Document) text(s string) {
	for len(s) > 0 {
		n := min(len(s), 1<<15)
		d.add(stored([]byte(s[:n])))
		s = s[n:]
	}
}

// Size is the number of bytes of the text.
func (d *Document) Size() int { return d.size }

// WriteTo writes the text.
func (d *Document) WriteTo(w io.Writer) (int64, error) {
	all := make([]io.Reader, 0, len(d.parts)+1)
	for _, p := range d.parts {
		all = append(all, bytes.NewReader(p.blocks))
	}
	r := flate.NewReader(io.MultiReader(append(all, bytes.NewReader(last))...))
	defer r.Close()
	return io.Copy(w, r)
}

// gzipHeader says nothing but the form. (RFC 1952.)
var gzipHeader = []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff}

// GzipSize is the number of bytes that WriteGzip writes.
func (d *Document) GzipSize() int {
	n := len(gzipHeader) + len(last) + 8
	for _, p := range d.parts {
		n += len(p.blocks)
	}
	return n
}

// WriteGzip writes the text in gzip's form.
func (d *Document) WriteGzip(w io.Writer) error {
	if _, err := w.Write(gzipHeader); err != nil {
		return err
	}
	var sum uint32
	for _, p := range d.parts {
		if _, err := w.Write(p.blocks); err != nil {
			return err
		}
		sum = together(sum, p.sum, p.size)
	}
	end := binary.LittleEndian.AppendUint32(last[:len(last):len(last)], sum)
	_, err := w.Write(binary.LittleEndian.AppendUint32(end, uint32(d.size)))
	return err
}

// matrix is a linear map of the 32 bits of a checksum: the images of the bits.
type matrix [32]uint32

func (m *matrix) of(v uint32) (sum uint32) {
	for i := 0; v != 0; i, v = i+1, v>>1 {
		if v&1 != 0 {
			sum ^= m[i]
		}
	}
	return sum
}

func (m *matrix) twice() (square matrix) {
	for i := range m {
		square[i] = m.of(m[i])
	}
	return square
}

// powers are the maps of going over 1, 2, 4 … zero bytes: as many as the length
// of a part may have bits.
var powers = sync.OnceValue(func() *[40]matrix {
	var all [40]matrix
	var step matrix // over one zero bit
	step[0] = crc32.IEEE
	for i := 1; i < 32; i++ {
		step[i] = 1 << (i - 1)
	}
	for range 3 { // bits to bytes
		step = step.twice()
	}
	for i := range all {
		all[i], step = step, step.twice()
	}
	return &all
})

// together is the checksum of two texts after one another, of the checksums of
// both and the length of the second. To go over a zero bit is a linear map;
// to go over n of them is its n-th power. (Mark Adler's crc32_combine explains
// the idea.)
func together(first, second uint32, length int) uint32 {
	over := powers()
	for i, n := 0, length; n > 0; i, n = i+1, n>>1 {
		if n&1 != 0 {
			first = over[i].of(first)
		}
	}
	return first ^ second
}
