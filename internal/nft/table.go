// Package nft describes a table of nftables as a value and gives it to the
// kernel in one transaction: all of it, or only the elements of its maps that
// have changed.
//
// It is the only importer of the nftables library. It knows rules, not what
// they are for.
package nft

import (
	"errors"
	"fmt"
	"syscall"

	lib "github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"

	"sampan/internal/fault"
)

// Table is a table of one address family.
type Table struct {
	Name   string
	IPv6   bool
	Maps   []Map
	Chains []Chain
}

// Map is a named set or map, keyed by the fields given, each padded to four
// bytes.
type Map struct {
	Name  string
	Key   []Type
	Value []Type // empty: a set
	Jump  bool   // the value is a chain to go to

	// Learns is true for a map that rules add to (see Remember), up to so many
	// elements. Each has a time after which it is forgotten.
	Learns int
}

// Type is the type of a field of a key or value.
type Type uint8

const (
	IPv4   Type = iota
	Proto       // one byte: syscall.IPPROTO_TCP …
	Port        // two bytes, big endian
	Number      // four bytes, this machine's order
	IPv6
)

var types = [...]lib.SetDatatype{
	IPv4: lib.TypeIPAddr, Proto: lib.TypeInetProto, Port: lib.TypeInetService, Number: lib.TypeInteger, IPv6: lib.TypeIP6Addr,
}

// Element is one entry of a Map. Key and Value are made by Bytes.
type Element struct {
	Key   string
	Value string // of a map
	Goto  string // of a map with Jump: the chain
}

// Chain is a list of rules, called by another one or, with Hook, by the kernel.
type Chain struct {
	Name  string
	Hook  *Hook
	Rules []Rule
}

// Hook says when the kernel calls a chain.
type Hook struct {
	NAT      bool // a nat chain sees the first packet of a connection; else filter
	At       Point
	Priority int // smaller comes first; 0 is filter's, -100 dstnat's, 100 srcnat's
}

// Point is a place on a packet's way.
type Point uint8

const (
	Prerouting Point = iota
	Input
	Forward
	Output
	Postrouting
)

var points = [...]*lib.ChainHook{
	Prerouting: lib.ChainHookPrerouting, Input: lib.ChainHookInput, Forward: lib.ChainHookForward,
	Output: lib.ChainHookOutput, Postrouting: lib.ChainHookPostrouting,
}

// Change adds to, or takes from, one map. What is deleted goes first.
type Change struct {
	Map    string
	Empty  bool // all elements go first, also those that rules added
	Delete []Element
	Add    []Element
}

// Replace makes the kernel's table of that name equal t, with the elements
// given, in one step: no packet sees it half-done, or gone. It works on the
// calling thread's network namespace.
func Replace(t Table, elements map[string][]Element) error {
	c, err := dial()
	if err != nil {
		return err
	}
	// Adding it first makes deleting it safe where it was not there.
	table := &lib.Table{Name: t.Name, Family: t.family()}
	c.AddTable(table)
	c.DelTable(table)
	c.AddTable(table)
	for _, ch := range t.Chains {
		c.AddChain(t.chain(table, ch))
	}
	for _, m := range t.Maps {
		set := t.set(table, m)
		if err := c.AddSet(set, nil); err != nil {
			return failed("define map "+m.Name+" in", t.Name, err)
		}
		if err := add(c, set, elements[m.Name]); err != nil {
			return failed("fill map "+m.Name+" in", t.Name, err)
		}
	}
	for _, ch := range t.Chains {
		for _, r := range ch.Rules {
			c.AddRule(&lib.Rule{Table: table, Chain: t.chain(table, ch), Exprs: r.exprs()})
		}
	}
	return failed("replace nftables table", t.Name, c.Flush())
}

// Update changes elements of maps, and adds chains that are not there yet, in
// one step.
func Update(t Table, chains []Chain, changes []Change) error {
	c, err := dial()
	if err != nil {
		return err
	}
	table := &lib.Table{Name: t.Name, Family: t.family()}
	for _, ch := range chains {
		c.AddChain(t.chain(table, ch))
		for _, r := range ch.Rules {
			c.AddRule(&lib.Rule{Table: table, Chain: t.chain(table, ch), Exprs: r.exprs()})
		}
	}
	for _, ch := range changes {
		m, ok := t.find(ch.Map)
		if !ok {
			return &fault.Error{Op: "change nftables map", On: ch.Map, Err: fmt.Errorf("table %s does not declare it", t.Name)}
		}
		set := t.set(table, m)
		if ch.Empty {
			c.FlushSet(set)
		}
		for part := range chunks(ch.Delete) {
			if err := c.SetDeleteElements(set, kernel(part)); err != nil {
				return failed("take from map "+ch.Map+" in", t.Name, err)
			}
		}
	}
	for _, ch := range changes {
		m, _ := t.find(ch.Map)
		if err := add(c, t.set(table, m), ch.Add); err != nil {
			return failed("add to map "+ch.Map+" in", t.Name, err)
		}
	}
	return failed("change nftables table", t.Name, c.Flush())
}

// Delete removes a table; nil if there is none.
func Delete(name string, ipv6 bool) error {
	c, err := dial()
	if err != nil {
		return err
	}
	table := &lib.Table{Name: name, Family: Table{IPv6: ipv6}.family()}
	c.AddTable(table)
	c.DelTable(table)
	return failed("delete nftables table", name, c.Flush())
}

// Tables names the tables that there are, of all families.
func Tables() ([]string, error) {
	c, err := dial()
	if err != nil {
		return nil, err
	}
	list, err := c.ListTables()
	if err != nil {
		return nil, failed("list nftables tables", "", err)
	}
	var names []string
	for _, t := range list {
		names = append(names, t.Name)
	}
	return names, nil
}

// dial opens a socket whose buffers hold a batch of several megabytes, with
// its acknowledgements (the defaults end in ENOBUFS).
func dial() (*lib.Conn, error) {
	const buffer = 64 << 20
	c, err := lib.New(lib.WithSockOptions(func(c *netlink.Conn) error {
		return errors.Join(c.SetReadBuffer(buffer), c.SetWriteBuffer(buffer))
	}))
	if err != nil {
		return nil, failed("open nftables socket", "", err)
	}
	return c, nil
}

func (t Table) family() lib.TableFamily {
	if t.IPv6 {
		return lib.TableFamilyIPv6
	}
	return lib.TableFamilyIPv4
}

func (t Table) chain(table *lib.Table, c Chain) *lib.Chain {
	k := &lib.Chain{Name: c.Name, Table: table}
	if h := c.Hook; h != nil {
		k.Type = lib.ChainTypeFilter
		if h.NAT {
			k.Type = lib.ChainTypeNAT
		}
		k.Hooknum = points[h.At]
		k.Priority = lib.ChainPriorityRef(lib.ChainPriority(h.Priority))
	}
	return k
}

func (t Table) set(table *lib.Table, m Map) *lib.Set {
	s := &lib.Set{Table: table, Name: m.Name, KeyType: join(m.Key), Concatenation: len(m.Key) > 1}
	switch {
	case m.Jump:
		s.IsMap, s.DataType = true, lib.TypeVerdict
	case len(m.Value) > 0:
		s.IsMap, s.DataType = true, join(m.Value)
	}
	if m.Learns > 0 {
		s.Dynamic, s.HasTimeout, s.Size = true, true, uint32(m.Learns)
	}
	return s
}

func (t Table) find(name string) (Map, bool) {
	for _, m := range t.Maps {
		if m.Name == name {
			return m, true
		}
	}
	return Map{}, false
}

func join(fields []Type) lib.SetDatatype {
	if len(fields) == 1 {
		return types[fields[0]]
	}
	all := make([]lib.SetDatatype, len(fields))
	for i, f := range fields {
		all[i] = types[f]
	}
	return lib.MustConcatSetType(all...)
}

func add(c *lib.Conn, set *lib.Set, elements []Element) error {
	for part := range chunks(elements) {
		if err := c.SetAddElements(set, kernel(part)); err != nil {
			return err
		}
	}
	return nil
}

// chunks cuts elements so that each message stays below the 64 KiB that an
// attribute can be long.
func chunks(elements []Element) func(func([]Element) bool) {
	const most = 400
	return func(yield func([]Element) bool) {
		for len(elements) > 0 {
			n := min(most, len(elements))
			if !yield(elements[:n]) {
				return
			}
			elements = elements[n:]
		}
	}
}

func kernel(elements []Element) []lib.SetElement {
	all := make([]lib.SetElement, len(elements))
	for i, e := range elements {
		all[i] = lib.SetElement{Key: []byte(e.Key), Val: []byte(e.Value)}
		if e.Goto != "" {
			all[i].VerdictData = &expr.Verdict{Kind: expr.VerdictGoto, Chain: e.Goto}
		}
	}
	return all
}

func failed(op, on string, err error) error {
	if err == nil {
		return nil
	}
	f := &fault.Error{Op: op, On: on, Err: err}
	if errors.Is(err, syscall.EPERM) {
		f.Class, f.Fix = fault.Forbidden, "run as root"
	}
	return f
}
