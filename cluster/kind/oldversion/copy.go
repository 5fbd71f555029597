package oldversion

import (
	"fmt"
	"reflect"
)

// copier makes an object of one version of that of another: fields of the same
// name are taken over, wherever they are, and what else there is to do for two
// types is in after. What it makes shares what both versions have the same type
// for.
type copier struct {
	after map[[2]reflect.Type]func(dst, src any)
}

// then has a copier do something more whenever it has copied an S into a D.
func then[D, S any](c *copier, do func(dst *D, src *S)) {
	if c.after == nil {
		c.after = map[[2]reflect.Type]func(dst, src any){}
	}
	c.after[[2]reflect.Type{reflect.TypeFor[D](), reflect.TypeFor[S]()}] = func(dst, src any) { do(dst.(*D), src.(*S)) }
}

// into fills the object that dst points to from the one that src points to.
func (c *copier) into(dst, src any) { c.copy(reflect.ValueOf(dst).Elem(), reflect.ValueOf(src).Elem()) }

// copy fills dst, which is settable and empty. src is addressable. Two types that
// cannot be made of each other are a mistake in the table: it panics.
func (c *copier) copy(dst, src reflect.Value) {
	do := c.after[[2]reflect.Type{dst.Type(), src.Type()}]
	if dst.Type() == src.Type() && do == nil {
		dst.Set(src)
		return
	}
	switch {
	case dst.Kind() == src.Kind():
	case dst.Kind() == reflect.Pointer: // of a value that may not be missing
		dst.Set(reflect.New(dst.Type().Elem()))
		c.copy(dst.Elem(), src)
		return
	case src.Kind() == reflect.Pointer:
		if !src.IsNil() {
			c.copy(dst, src.Elem())
		}
		return
	}
	switch dst.Kind() {
	case reflect.Struct:
		for i := range dst.NumField() {
			if from := src.FieldByName(dst.Type().Field(i).Name); from.IsValid() && alike(dst.Field(i).Type(), from.Type()) {
				c.copy(dst.Field(i), from)
			}
		}
	case reflect.Pointer:
		if !src.IsNil() {
			dst.Set(reflect.New(dst.Type().Elem()))
			c.copy(dst.Elem(), src.Elem())
		}
	case reflect.Slice:
		if !src.IsNil() {
			dst.Set(reflect.MakeSlice(dst.Type(), src.Len(), src.Len()))
			for i := range src.Len() {
				c.copy(dst.Index(i), src.Index(i))
			}
		}
	case reflect.Map:
		if src.IsNil() {
			return
		}
		dst.Set(reflect.MakeMapWithSize(dst.Type(), src.Len()))
		for it := src.MapRange(); it.Next(); {
			key, from, to := reflect.New(dst.Type().Key()).Elem(), reflect.New(src.Type().Elem()).Elem(), reflect.New(dst.Type().Elem()).Elem()
			key.Set(it.Key().Convert(key.Type()))
			from.Set(it.Value())
			c.copy(to, from)
			dst.SetMapIndex(key, to)
		}
	default:
		if !src.CanConvert(dst.Type()) || src.Kind() != dst.Kind() {
			panic(fmt.Sprintf("oldversion: a %s cannot be made of a %s", dst.Type(), src.Type()))
		}
		dst.Set(src.Convert(dst.Type()))
	}
	if do != nil {
		do(dst.Addr().Interface(), src.Addr().Interface())
	}
}

// alike is false for fields of one name that mean different things: they are
// left to those who know (then).
func alike(a, b reflect.Type) bool {
	return a.Kind() == b.Kind() || a.Kind() == reflect.Pointer && alike(a.Elem(), b) || b.Kind() == reflect.Pointer && alike(a, b.Elem())
}
