package image

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"sampan/internal/fault"
)

// archive is a tar on disk with an index, so that its parts can be read in any
// order and several at once.
type archive struct {
	file  *os.File
	parts map[string]part
}

type part struct {
	offset, size int64
	link         string // another part's name
}

var damaged = "the archive is incomplete or not an image archive: make it again with docker save or sampan save"

// openArchive indexes r. A plain tar in a regular file is read where it is;
// everything else is first written, decompressed, to a file in dir without a name.
func openArchive(ctx context.Context, r io.Reader, dir string) (*archive, error) {
	if f, ok := r.(*os.File); ok {
		st, err := f.Stat()
		if err == nil && st.Mode().IsRegular() {
			if pos, err := f.Seek(0, io.SeekCurrent); err == nil && pos == 0 {
				var head [4]byte
				if n, _ := f.ReadAt(head[:], 0); compression(head[:n]) == "" {
					a := &archive{file: f, parts: map[string]part{}}
					return a, a.index(ctx)
				}
			}
		}
	}
	in, err := decompress(r)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	tmp, err := os.CreateTemp(dir, "spool")
	if err != nil {
		return nil, &fault.Error{Op: "read archive", Err: err}
	}
	os.Remove(tmp.Name())
	a := &archive{file: tmp, parts: map[string]part{}}
	if _, err = io.Copy(tmp, &contextReader{ctx, in}); err != nil {
		a.file.Close()
		return nil, &fault.Error{Class: fault.Invalid, Op: "read archive", Err: err, Fix: damaged}
	}
	if err = a.index(ctx); err != nil {
		a.file.Close()
		return nil, err
	}
	return a, nil
}

// contextReader ends a copy when ctx does.
type contextReader struct {
	ctx context.Context
	io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.Reader.Read(p)
}

func (a *archive) index(ctx context.Context) error {
	bad := func(err error) error {
		return &fault.Error{Class: fault.Invalid, Op: "read archive", Err: err, Fix: damaged}
	}
	st, err := a.file.Stat()
	if err != nil {
		return bad(err)
	}
	if st.Size() == 0 {
		return bad(errors.New("it is empty"))
	}
	sec := io.NewSectionReader(a.file, 0, st.Size())
	tr := tar.NewReader(sec) // skips over contents by seeking
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		hdr, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return bad(err)
		}
		name := path.Clean(strings.TrimLeft(hdr.Name, "/"))
		switch hdr.Typeflag {
		case tar.TypeReg:
			at, err := sec.Seek(0, io.SeekCurrent)
			if err != nil {
				return bad(err)
			}
			if at+hdr.Size > st.Size() {
				return bad(errors.New(hdr.Name + " is cut off"))
			}
			a.parts[name] = part{offset: at, size: hdr.Size}
		case tar.TypeSymlink:
			a.parts[name] = part{link: path.Join(path.Dir(name), hdr.Linkname)}
		case tar.TypeLink:
			a.parts[name] = part{link: path.Clean(hdr.Linkname)}
		}
	}
}

// open gives a part's bytes.
func (a *archive) open(name string) (*io.SectionReader, error) {
	p, ok := a.parts[path.Clean(name)]
	for hops := 0; ok && p.link != "" && hops < 8; hops++ {
		p, ok = a.parts[p.link]
	}
	if !ok || p.link != "" {
		return nil, &fault.Error{Class: fault.Invalid, Op: "read archive", Err: errors.New("it has no " + name), Fix: damaged}
	}
	return io.NewSectionReader(a.file, p.offset, p.size), nil
}

func (a *archive) has(name string) bool {
	_, err := a.open(name)
	return err == nil
}

// bytes reads a small part.
func (a *archive) bytes(name string) ([]byte, error) {
	r, err := a.open(name)
	if err != nil {
		return nil, err
	}
	if r.Size() > 16<<20 {
		return nil, &fault.Error{Class: fault.Invalid, Op: "read archive", On: name, Err: errors.New("larger than 16 MiB")}
	}
	return io.ReadAll(r)
}

// compression tells by the first bytes; "" is none that is known.
func compression(head []byte) string {
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return "gzip"
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return "zstd"
	}
	return ""
}

// decompress gives r's content, whatever it is packed with. Reading to the end
// reads r to its end, so that a hash around r is complete.
func decompress(r io.Reader) (io.ReadCloser, error) {
	br := bufio.NewReaderSize(r, 64<<10)
	head, _ := br.Peek(4)
	switch compression(head) {
	case "gzip":
		z, err := gzip.NewReader(br)
		if err != nil {
			return nil, &fault.Error{Class: fault.Invalid, Op: "decompress", Err: err}
		}
		return &unpacked{z, br, func() { z.Close() }}, nil
	case "zstd":
		z, err := zstd.NewReader(br, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(512<<20))
		if err != nil {
			return nil, &fault.Error{Class: fault.Invalid, Op: "decompress", Err: err}
		}
		return &unpacked{z, br, z.Close}, nil
	}
	return io.NopCloser(br), nil
}

type unpacked struct {
	io.Reader
	rest  io.Reader
	close func()
}

func (u *unpacked) Read(p []byte) (int, error) {
	n, err := u.Reader.Read(p)
	if err == io.EOF {
		if _, e := io.Copy(io.Discard, u.rest); e != nil {
			return n, e
		}
	}
	return n, err
}

func (u *unpacked) Close() error { u.close(); return nil }
