package object

import (
	"encoding/binary"
	"unicode/utf8"
)

// appendQuoted appends s as encoding/json writes it: with what HTML would take
// for its own as \u00XX, and U+FFFD for what is no UTF-8.
func appendQuoted(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		if i += plain(s[i:]); i == len(s) {
			break
		}
		switch c := s[i]; {
		case c >= utf8.RuneSelf:
			r, size := utf8.DecodeRuneInString(s[i:])
			switch {
			case r == utf8.RuneError && size == 1:
				dst = append(append(dst, s[start:i]...), `\ufffd`...)
				start = i + size
			case r == '\u2028', r == '\u2029': // JavaScript's line ends
				dst = append(append(dst, s[start:i]...), `\u202`...)
				dst = append(dst, hex[r&0xf])
				start = i + size
			}
			i += size
			continue
		case c == '\\', c == '"':
			dst = append(append(dst, s[start:i]...), '\\', c)
		case c == '\b':
			dst = append(append(dst, s[start:i]...), '\\', 'b')
		case c == '\f':
			dst = append(append(dst, s[start:i]...), '\\', 'f')
		case c == '\n':
			dst = append(append(dst, s[start:i]...), '\\', 'n')
		case c == '\r':
			dst = append(append(dst, s[start:i]...), '\\', 'r')
		case c == '\t':
			dst = append(append(dst, s[start:i]...), '\\', 't')
		default:
			dst = append(append(dst, s[start:i]...), '\\', 'u', '0', '0', hex[c>>4], hex[c&0xf])
		}
		i++
		start = i
	}
	return append(append(dst, s[start:]...), '"')
}

// plain is how many bytes at the start of s stand for themselves.
func plain(s string) int {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	zero := func(v uint64) uint64 { return (v - ones) & ^v } // its tops are set if a byte is 0
	i := 0
	for ; i+8 <= len(s); i += 8 { // eight at a time
		w := binary.LittleEndian.Uint64([]byte(s[i : i+8]))
		odd := w | (w-ones*0x20) & ^w | // beyond ASCII, below space
			zero(w^ones*'\\') |
			zero(w&^(ones*0x04)^ones*'"') | // and &
			zero(w&^(ones*0x02)^ones*'<') // and >
		if odd&tops != 0 {
			break
		}
	}
	for ; i < len(s); i++ {
		if c := s[i]; c < ' ' || c >= utf8.RuneSelf || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			break
		}
	}
	return i
}
