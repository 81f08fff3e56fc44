// Compare measures Claviger beside what it stands on: the PKCS#11 module by
// itself, and the least that a Go server must do. Each pair is measured in
// turn, several times, on the same cores with the load that it is put under;
// it prints medians and the ratio of each round's pair.
//
//	go run ./bench/compare -claviger bin/claviger
//
// With -peer it measures another server with Vault's API instead, whose token is
// in PEER_TOKEN and which has an engine at transit/, beside a development server
// with keys in software: what both do without an HSM.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

type options struct {
	claviger, module string
	rounds           int
	duration         time.Duration
	only             string
	peer             string
}

func main() {
	var o options
	flag.StringVar(&o.claviger, "claviger", "bin/claviger", "the binary to measure")
	flag.StringVar(&o.module, "module", "/usr/lib/softhsm/libsofthsm2.so", "SoftHSM2's module")
	flag.IntVar(&o.rounds, "rounds", 3, "rounds of each pair")
	flag.DurationVar(&o.duration, "duration", 3*time.Second, "time of each measurement")
	flag.StringVar(&o.only, "only", "", "measure only pairs whose name contains this")
	flag.StringVar(&o.peer, "peer", "", "address of another server with Vault's API, token in PEER_TOKEN")
	flag.Parse()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

func run(o options) error {
	dir, err := os.MkdirTemp("", "claviger-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{options: o, dir: dir}
	defer b.stop()
	if err := b.prepare(); err != nil {
		return err
	}
	fmt.Printf("%-46s %12s %12s   %s\n", "", "peer", "Claviger", "ratio (min–max of rounds)")
	for _, p := range b.pairs() {
		if !strings.Contains(p.name, o.only) {
			continue
		}
		if err := b.pair(p); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return b.start()
}

// pair is a peer's measurement and Claviger's, both in operations per second.
type pair struct {
	name           string
	peer, claviger func() (float64, error)
}

func (b *bench) pairs() []pair {
	raw := func(op, typ string, shapes ...[2]int) func() (float64, error) {
		return func() (float64, error) { return b.best(op, typ, shapes) }
	}
	if b.peer != "" {
		return b.peerPairs()
	}
	soft := b.softhsm
	one := [][2]int{{1, 1}, {1, 2}, {1, 4}}
	all := append(slices.Clone(one), [2]int{2, 1}, [2]int{2, 2})
	return []pair{
		{"RSA-2048 sign / module's best", raw("sign", "rsa-2048", all...), b.api(soft, "sign", "rsa-2048", "", 32, 1, 16)},
		{"ECDSA P-256 sign / module's best", raw("sign", "ecdsa-p256", all...), b.api(soft, "sign", "ecdsa-p256", "", 32, 1, 32)},
		{"ECDSA P-256 sign, batch 100 / module's best", raw("sign", "ecdsa-p256", all...), b.api(soft, "sign", "ecdsa-p256", "", 32, 100, 4)},
		{"AES-256-GCM 1 KiB / module's best", raw("encrypt", "aes256-gcm96", all...), b.api(soft, "encrypt", "aes256-gcm96", "", 1024, 1, 32)},
		{"AES-256-GCM 1 KiB, batch 100 / module, 1 process", raw("encrypt", "aes256-gcm96", one...), b.api(soft, "encrypt", "aes256-gcm96", "", 1024, 100, 4)},
		{"HMAC-SHA-256 64 B, batch 100 / module, 1 process", raw("hmac", "hmac", one...), b.api(soft, "hmac", "hmac", "", 64, 100, 4)},
		{"RSA-2048 certificates / module's best", raw("sign", "rsa-2048", all...), b.api(soft, "certify", "rsa-2048", "", 32, 1, 64)},
		{"RSA-2048 certificates, no_store / module's best", raw("sign", "rsa-2048", all...), b.api(soft, "certify-no-store", "rsa-2048", "", 32, 1, 64)},
		{"P-256 certificates / module's best", raw("sign", "ecdsa-p256", all...), b.api(soft, "certify", "ecdsa-p256", "", 32, 1, 64)},
		{"P-256 certificates, 1 connection / module's best", raw("sign", "ecdsa-p256", all...), b.api(soft, "certify", "ecdsa-p256", "", 32, 1, 1)},
		{"P-256 certificates, no_store / module's best", raw("sign", "ecdsa-p256", all...), b.api(soft, "certify-no-store", "ecdsa-p256", "", 32, 1, 64)},
		{"P-256 certificates in software / bare Go handler", b.api(b.baseline, "encrypt", "aes256-gcm96", "", 64, 1, 64), b.api(b.dev, "certify", "ecdsa-p256", "software", 32, 1, 64)},
		{"OCSP answers, kept / bare Go handler", b.api(b.baseline, "encrypt", "aes256-gcm96", "", 64, 1, 64), b.api(b.dev, "ocsp", "ecdsa-p256", "software", 32, 1, 64)},
		{"AES-256-GCM 64 B in software / bare Go handler", b.api(b.baseline, "encrypt", "aes256-gcm96", "", 64, 1, 64), b.api(b.dev, "encrypt", "aes256-gcm96", "software", 64, 1, 64)},
	}
}

func (b *bench) peerPairs() []pair {
	peer := &server{addr: b.peer, token: os.Getenv("PEER_TOKEN")}
	var pairs []pair
	for _, l := range []struct {
		name, op, typ               string
		payload, batch, connections int
	}{
		{"AES-256-GCM encrypt 64 B", "encrypt", "aes256-gcm96", 64, 1, 64},
		{"AES-256-GCM decrypt 64 B", "decrypt", "aes256-gcm96", 64, 1, 64},
		{"AES-256-GCM encrypt 1 KiB, batch 100", "encrypt", "aes256-gcm96", 1024, 100, 4},
		{"HMAC-SHA-256 64 B", "hmac", "aes256-gcm96", 64, 1, 64},
		{"ECDSA P-256 sign", "sign", "ecdsa-p256", 32, 1, 32},
		{"ECDSA P-256 verify", "verify", "ecdsa-p256", 32, 1, 32},
		{"RSA-2048 sign", "sign", "rsa-2048", 32, 1, 16},
		{"Ed25519 sign", "sign", "ed25519", 32, 1, 32},
		{"random 32 B", "random", "", 32, 1, 64},
	} {
		pairs = append(pairs, pair{l.name + " / other server", b.api(peer, l.op, l.typ, "", l.payload, l.batch, l.connections),
			b.api(b.dev, l.op, l.typ, "software", l.payload, l.batch, l.connections)})
	}
	return pairs
}

func (b *bench) pair(p pair) error {
	var peers, ours, ratios []float64
	for range b.rounds {
		peer, err := p.peer()
		if err != nil {
			return fmt.Errorf("peer: %w", err)
		}
		our, err := p.claviger()
		if err != nil {
			return fmt.Errorf("claviger: %w", err)
		}
		peers, ours, ratios = append(peers, peer), append(ours, our), append(ratios, our/peer)
	}
	for _, s := range [][]float64{peers, ours, ratios} {
		slices.Sort(s)
	}
	m := len(ratios) / 2
	fmt.Printf("%-46s %10.0f/s %10.0f/s   %.2f (%.2f–%.2f)\n", p.name, peers[m], ours[m], ratios[m], ratios[0], ratios[len(ratios)-1])
	return nil
}

// best is the module's best rate over numbers of processes and sessions.
func (b *bench) best(op, typ string, shapes [][2]int) (float64, error) {
	var best float64
	payload := 1024
	if op == "hmac" {
		payload = 64
	}
	for _, s := range shapes {
		var res struct {
			Rate float64 `json:"operations_per_second"`
		}
		cmd := exec.Command(b.tool("p11load"), "-module", b.module, "-label", "raw", "-op", op, "-type", typ,
			"-payload", fmt.Sprint(payload), "-processes", fmt.Sprint(s[0]), "-sessions", fmt.Sprint(s[1]),
			"-duration", b.duration.String(), "-format", "json")
		cmd.Env = append(os.Environ(), b.hsmEnv, "P11_PIN="+b.rawPIN)
		if err := output(cmd, &res); err != nil {
			return 0, err
		}
		best = max(best, res.Rate)
	}
	return best, nil
}

// api measures a server; the rate counts items of batches.
func (b *bench) api(s *server, op, typ, protection string, payload, batch, connections int) func() (float64, error) {
	return func() (float64, error) {
		var res struct {
			Items  float64 `json:"items_per_second"`
			Errors int     `json:"errors"`
			First  string  `json:"first_error"`
		}
		cmd := exec.Command(b.tool("apiload"), "-addr", s.addr, "-op", op, "-type", typ, "-protection", protection,
			"-payload", fmt.Sprint(payload), "-batch", fmt.Sprint(batch), "-connections", fmt.Sprint(connections),
			"-duration", b.duration.String(), "-format", "json")
		cmd.Env = append(os.Environ(), "VAULT_TOKEN="+s.token)
		if err := output(cmd, &res); err != nil {
			return 0, err
		}
		if res.Errors > 0 {
			return 0, fmt.Errorf("%d requests failed: %s", res.Errors, res.First)
		}
		return res.Items, nil
	}
}

func output(cmd *exec.Cmd, v any) error {
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return fmt.Errorf("%s: %w: %s%s", filepath.Base(cmd.Path), err, exit.Stderr, out)
		}
		return err
	}
	return json.Unmarshal(out, v)
}
