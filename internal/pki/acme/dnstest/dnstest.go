// Package dnstest is a name server for tests, on UDP at a free loopback port.
//
// Promise: it answers what the test says, at once, and ends with it. It trusts
// its test; it is no name server for anything else.
package dnstest

import (
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// Server is a name server. At first every name has the address 127.0.0.1.
type Server struct {
	Address string   // host:port
	Texts   sync.Map // name in small letters with its final dot, to its TXT records, []string

	addresses atomic.Pointer[Addresses]
}

// Addresses are those of a name, which is in small letters with its final dot;
// ipv6 says which kind is asked for. nil is "no such name".
type Addresses func(name string, ipv6 bool) []netip.Addr

// New starts a server.
func New(t testing.TB) *Server {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	s := &Server{Address: conn.LocalAddr().String()}
	s.Set(Loopback)
	go s.serve(conn)
	return s
}

// Set says which addresses names have from now on.
func (s *Server) Set(a Addresses) { s.addresses.Store(&a) }

// Loopback are the addresses of names that lead to 127.0.0.1.
func Loopback(_ string, ipv6 bool) []netip.Addr {
	if ipv6 {
		return []netip.Addr{}
	}
	return []netip.Addr{netip.MustParseAddr("127.0.0.1")}
}

func (s *Server) serve(conn net.PacketConn) {
	buf := make([]byte, 4096)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		if answer := s.answer(buf[:n]); answer != nil {
			conn.WriteTo(answer, from)
		}
	}
}

func (s *Server) answer(query []byte) []byte {
	var m dnsmessage.Message
	if m.Unpack(query) != nil || len(m.Questions) != 1 {
		return nil
	}
	q := m.Questions[0]
	out := dnsmessage.Message{Header: dnsmessage.Header{ID: m.ID, Response: true, Authoritative: true, RecursionAvailable: true}, Questions: m.Questions}
	bodies, exists := s.records(strings.ToLower(q.Name.String()), q.Type)
	for _, b := range bodies {
		h := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1}
		out.Answers = append(out.Answers, dnsmessage.Resource{Header: h, Body: b})
	}
	if !exists {
		out.RCode = dnsmessage.RCodeNameError
	}
	packed, err := out.Pack()
	if err != nil {
		return nil
	}
	return packed
}

func (s *Server) records(name string, kind dnsmessage.Type) (bodies []dnsmessage.ResourceBody, exists bool) {
	switch kind {
	case dnsmessage.TypeA, dnsmessage.TypeAAAA:
		list := (*s.addresses.Load())(name, kind == dnsmessage.TypeAAAA)
		for _, a := range list {
			if kind == dnsmessage.TypeA {
				bodies = append(bodies, &dnsmessage.AResource{A: a.As4()})
			} else {
				bodies = append(bodies, &dnsmessage.AAAAResource{AAAA: a.As16()})
			}
		}
		return bodies, list != nil
	case dnsmessage.TypeTXT:
		if texts, ok := s.Texts.Load(name); ok {
			for _, text := range texts.([]string) {
				bodies = append(bodies, &dnsmessage.TXTResource{TXT: []string{text}})
			}
		}
	}
	return bodies, true
}
