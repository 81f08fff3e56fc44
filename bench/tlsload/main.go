// Tlsload measures a TLS server: full handshakes without resumption over new
// connections, one request for / each.
//
//	tlsload -addr 127.0.0.1:8443 -connections 16 -duration 5s -pids 123,456
//
// It prints handshakes a second, their latencies, how many failed, and the CPU
// time of the processes that -pids names with all of their children.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

type options struct {
	addr        string
	connections int
	duration    time.Duration
	version     string
	pids        string
	format      string
}

// Result is one measurement.
type Result struct {
	Handshakes int     `json:"handshakes"`
	Failed     int     `json:"failed"`
	Rate       float64 `json:"handshakes_per_second"`
	P50        float64 `json:"p50_ms"`
	P99        float64 `json:"p99_ms"`
	CPU        float64 `json:"cpu_us_per_handshake"`
	Error      string  `json:"error,omitempty"`
}

func main() {
	var o options
	flag.StringVar(&o.addr, "addr", "127.0.0.1:443", "host:port of the server")
	flag.IntVar(&o.connections, "connections", 16, "connections at a time")
	flag.DurationVar(&o.duration, "duration", 5*time.Second, "how long")
	flag.StringVar(&o.version, "version", "1.3", "version of TLS: 1.2 or 1.3")
	flag.StringVar(&o.pids, "pids", "", "processes whose CPU time is counted, with their children")
	flag.StringVar(&o.format, "format", "text", "text or json")
	flag.Parse()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "tlsload:", err)
		os.Exit(1)
	}
}

func run(o options) error {
	config := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13} // only its speed is asked for
	switch o.version {
	case "1.3":
	case "1.2":
		config.MinVersion, config.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	default:
		return fmt.Errorf("-version %q: 1.2 or 1.3", o.version)
	}
	roots, err := numbers(o.pids)
	if err != nil {
		return err
	}
	// Connections, code and key are warm when the clock starts.
	load(o, config, min(o.duration/4, time.Second))
	before := cpu(roots)
	start := time.Now()
	latencies, failed, err := load(o, config, o.duration)
	if err != nil && len(latencies) == 0 {
		return err
	}
	spent := cpu(roots) - before
	r := Result{Handshakes: len(latencies), Failed: failed, Rate: float64(len(latencies)) / time.Since(start).Seconds()}
	if err != nil {
		r.Error = err.Error()
	}
	if n := len(latencies); n > 0 {
		slices.Sort(latencies)
		r.P50, r.P99 = ms(latencies[n/2]), ms(latencies[n*99/100])
		r.CPU = float64(spent.Microseconds()) / float64(n)
	}
	if o.format == "json" {
		return json.NewEncoder(os.Stdout).Encode(r)
	}
	fmt.Printf("%.0f handshakes/s, p50 %.2f ms, p99 %.2f ms, %.0f µs of CPU each, %d failed %s\n", r.Rate, r.P50, r.P99, r.CPU, r.Failed, r.Error)
	return nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// load makes handshakes for some time. It returns their latencies, how many
// failed, and the first error.
func load(o options, config *tls.Config, duration time.Duration) (latencies []time.Duration, failed int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), duration)
	defer cancel()
	var mu sync.Mutex
	var wait sync.WaitGroup
	for range o.connections {
		wait.Go(func() {
			var own []time.Duration
			var bad []error
			for ctx.Err() == nil && len(bad) < 100 {
				start := time.Now()
				if err := once(o.addr, config); err != nil {
					bad = append(bad, err)
				} else {
					own = append(own, time.Since(start))
				}
			}
			mu.Lock()
			defer mu.Unlock()
			latencies, failed = append(latencies, own...), failed+len(bad)
			if len(bad) > 0 {
				err = bad[0]
			}
		})
	}
	wait.Wait()
	return latencies, failed, err
}

// once makes a connection, asks for / and reads the answer's status.
func once(addr string, config *tls.Config) error {
	raw, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		return err
	}
	defer raw.Close()
	// Closed connections leave no port behind that waits.
	raw.(*net.TCPConn).SetLinger(0)
	raw.SetDeadline(time.Now().Add(20 * time.Second))
	conn := tls.Client(raw, config)
	if _, err := conn.Write([]byte("GET / HTTP/1.0\r\n\r\n")); err != nil {
		return err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err == nil && !strings.Contains(line, " 200 ") {
		err = fmt.Errorf("the server answered %q", line)
	}
	return err
}
