// Apiload measures any server with Vault's transit API: it makes a key, sends
// one prepared request over many connections for a while, and prints the rate,
// the latencies, the errors and the server's use of the CPU.
//
//	VAULT_TOKEN=… apiload -addr http://127.0.0.1:8200 -op sign -type ecdsa-p256
//
// The load generator speaks HTTP/1.1 by hand, since client and server share the
// machine and a full HTTP client would take more of it than the server does.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"time"
)

type options struct {
	addr, token        string
	mount, op, keyType string
	key, protection    string
	payload, batch     int
	connections        int
	duration, warmup   time.Duration
	serverPID          int
	format             string
}

// Result is one measurement.
type Result struct {
	Op          string  `json:"op"`
	Type        string  `json:"type"`
	Protection  string  `json:"protection,omitempty"`
	Payload     int     `json:"payload"`
	Batch       int     `json:"batch"`
	Connections int     `json:"connections"`
	Seconds     float64 `json:"seconds"`
	Requests    int     `json:"requests"`
	Errors      int     `json:"errors"`
	Rate        float64 `json:"requests_per_second"`
	Items       float64 `json:"items_per_second"`
	P50         float64 `json:"p50_us"`
	P99         float64 `json:"p99_us"`
	Max         float64 `json:"max_us"`
	ServerCPU   float64 `json:"server_cores,omitempty"` // of the server and its workers
	ServerRSS   float64 `json:"server_rss_mib,omitempty"`
	FirstError  string  `json:"first_error,omitempty"`
}

func main() {
	o := parseFlags()
	res, err := measure(o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "apiload:", err)
		os.Exit(1)
	}
	if o.format == "json" {
		json.NewEncoder(os.Stdout).Encode(res)
	} else {
		print(res)
	}
	if res.Errors > 0 {
		os.Exit(1)
	}
}

func parseFlags() options {
	var o options
	flag.StringVar(&o.addr, "addr", firstEnv("CLAVIGER_ADDR", "VAULT_ADDR", "BAO_ADDR"), "address of the server, http or https")
	flag.StringVar(&o.mount, "mount", "transit", "path of the transit mount")
	flag.StringVar(&o.op, "op", "encrypt", "encrypt, decrypt, rewrap, sign, verify, hmac, random, echo (seal-status), hsmdaemon (decrypt at that front), certify, certify-no-store or ocsp")
	flag.StringVar(&o.keyType, "type", "aes256-gcm96", "key type")
	flag.StringVar(&o.key, "key", "", "name of the key; default one of its own")
	flag.StringVar(&o.protection, "protection", "", "token, wrapped or software; default the server's")
	flag.IntVar(&o.payload, "payload", 64, "bytes of each plaintext or input")
	flag.IntVar(&o.batch, "batch", 1, "items of each request")
	flag.IntVar(&o.connections, "connections", 16, "connections, each with one request at a time")
	flag.DurationVar(&o.duration, "duration", 5*time.Second, "time to measure")
	flag.DurationVar(&o.warmup, "warmup", time.Second, "time before that is not counted")
	flag.IntVar(&o.serverPID, "server-pid", 0, "process id of the server, to show its CPU use")
	flag.StringVar(&o.format, "format", "table", "table or json")
	flag.Parse()
	o.token = firstEnv("CLAVIGER_TOKEN", "VAULT_TOKEN", "BAO_TOKEN")
	if o.key == "" {
		o.key = fmt.Sprintf("load-%s-%s-%d", o.keyType, o.protection, os.Getpid())
	}
	return o
}

func firstEnv(names ...string) string {
	for _, n := range names {
		if v := os.Getenv(n); v != "" {
			return v
		}
	}
	return ""
}

func print(r *Result) {
	fmt.Printf("%-8s %-14s %-9s payload %-6d batch %-4d connections %-3d  %9.0f req/s %9.0f items/s  p50 %7.0f µs  p99 %7.0f µs  max %8.0f µs  errors %d",
		r.Op, r.Type, r.Protection, r.Payload, r.Batch, r.Connections, r.Rate, r.Items, r.P50, r.P99, r.Max, r.Errors)
	if r.ServerCPU > 0 {
		fmt.Printf("  server %.2f cores, %.0f MiB", r.ServerCPU, r.ServerRSS)
	}
	fmt.Println()
	if r.FirstError != "" {
		fmt.Println("first error:", r.FirstError)
	}
}
