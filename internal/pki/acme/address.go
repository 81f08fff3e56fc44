package acme

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// special are IPv4 networks that are not the public network (RFC 6890 and its
// registry), beside those that netip knows; and the address of the host agent
// that virtual machines in Azure see, which is no one's on the public network.
var special = networks("0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24",
	"192.88.99.0/24", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
	"168.63.129.16/32")

// public6 is what of IPv6 is assigned as global unicast; special6 is what of it
// leads elsewhere: Teredo and its neighbours, documentation, 6to4.
var (
	public6  = netip.MustParsePrefix("2000::/3")
	special6 = networks("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
)

func networks(texts ...string) []netip.Prefix {
	var list []netip.Prefix
	for _, text := range texts {
		list = append(list, netip.MustParsePrefix(text))
	}
	return list
}

func within(list []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) })
}

// mayConnect tells whether validation may connect to an address: to public
// ones, and to those of the networks that were allowed.
func (v *Validator) mayConnect(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if within(v.Networks, a) {
		return true
	}
	if !a.IsGlobalUnicast() || a.IsPrivate() {
		return false
	}
	if a.Is4() {
		return !within(special, a)
	}
	return public6.Contains(a) && !within(special6, a)
}

// errForbidden is an address that validation does not connect to.
var errForbidden = errors.New("the address is not public, and in none of the networks that are allowed")

// maxAddresses is how many addresses of a name are tried.
const maxAddresses = 4

// dial connects to a name's addresses, one after the other. The address that
// was checked is the one that is used.
func (v *Validator) dial(ctx context.Context, _, hostPort string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(hostPort)
	if err != nil {
		return nil, err
	}
	addresses, err := v.addresses(ctx, host)
	if err != nil {
		return nil, err
	}
	var failed error
	for _, a := range addresses[:min(len(addresses), maxAddresses)] {
		if !v.mayConnect(a) {
			failed = fmt.Errorf("%v: %w", a, errForbidden)
			continue
		}
		d := net.Dialer{Timeout: attemptTimeout / 2}
		conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(a.Unmap().String(), port))
		if err == nil {
			return conn, nil
		}
		failed = err
	}
	return nil, failed
}

func (v *Validator) addresses(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	list, err := v.resolver().LookupNetIP(ctx, "ip", host+".")
	if err == nil && len(list) == 0 {
		err = &net.DNSError{Err: "no addresses", Name: host, IsNotFound: true}
	}
	return list, err
}

// resolver asks the name server of the rules, or the system's.
func (v *Validator) resolver() *net.Resolver {
	if v.Resolver == "" {
		return &net.Resolver{PreferGo: true}
	}
	return &net.Resolver{PreferGo: true, StrictErrors: false, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, v.Resolver)
	}}
}
