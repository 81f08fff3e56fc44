// P11load measures a PKCS#11 module itself, with the operations that apiload
// asks a server for: in several processes, each with several sessions that are
// used by one thread each. It is the ceiling that Claviger is measured against.
//
//	P11_PIN=… p11load -module /usr/lib/softhsm/libsofthsm2.so -label bench -op sign -type ecdsa-p256 -processes 2
//
// Keys are session objects, private and sensitive, made for the measurement.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

type options struct {
	module, label       string
	op, keyType         string
	payload             int
	processes, sessions int
	duration            time.Duration
	format              string
	child               bool
}

// Result is one measurement.
type Result struct {
	Op        string  `json:"op"`
	Type      string  `json:"type"`
	Payload   int     `json:"payload"`
	Processes int     `json:"processes"`
	Sessions  int     `json:"sessions"`
	Seconds   float64 `json:"seconds"`
	Rate      float64 `json:"operations_per_second"`
}

func main() {
	var o options
	flag.StringVar(&o.module, "module", "/usr/lib/softhsm/libsofthsm2.so", "the PKCS#11 module")
	flag.StringVar(&o.label, "label", "", "label of the token; its user PIN is in the variable P11_PIN")
	flag.StringVar(&o.op, "op", "sign", "sign, encrypt, decrypt, hmac or random")
	flag.StringVar(&o.keyType, "type", "ecdsa-p256", "aes256-gcm96, ecdsa-p256, ecdsa-p384, rsa-2048, rsa-4096 or hmac")
	flag.IntVar(&o.payload, "payload", 64, "bytes of each plaintext or message")
	flag.IntVar(&o.processes, "processes", 1, "processes that load the module")
	flag.IntVar(&o.sessions, "sessions", 1, "sessions of each process")
	flag.DurationVar(&o.duration, "duration", 5*time.Second, "time to measure")
	flag.StringVar(&o.format, "format", "table", "table or json")
	flag.BoolVar(&o.child, "child", false, "run as one of the processes (used by p11load itself)")
	flag.Parse()
	run := parent
	if o.child {
		run = child
	}
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "p11load:", err)
		os.Exit(1)
	}
}

// parent starts the processes one after another, since modules do not start
// safely side by side, lets them go together and adds up what they did.
func parent(o options) error {
	var children []*process
	for range o.processes {
		p, err := start()
		if err != nil {
			return err
		}
		children = append(children, p)
	}
	for _, p := range children {
		fmt.Fprintln(p.in, "go")
	}
	res := Result{Op: o.op, Type: o.keyType, Payload: o.payload, Processes: o.processes, Sessions: o.sessions, Seconds: o.duration.Seconds()}
	for _, p := range children {
		rate, err := p.result()
		if err != nil {
			return err
		}
		res.Rate += rate
	}
	if o.format == "json" {
		return json.NewEncoder(os.Stdout).Encode(res)
	}
	fmt.Printf("%-8s %-14s payload %-6d processes %d sessions %d  %9.0f op/s\n",
		res.Op, res.Type, res.Payload, res.Processes, res.Sessions, res.Rate)
	return nil
}

type process struct {
	cmd *exec.Cmd
	in  *os.File
	out *bufio.Reader
}

// start runs a process with the same flags and waits until it is ready.
func start() (*process, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	cmd := exec.Command(os.Args[0], append([]string{"-child"}, os.Args[1:]...)...)
	cmd.Stdin, cmd.Stderr = r, os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, in: w, out: bufio.NewReader(out)}
	if line, err := p.out.ReadString('\n'); err != nil || strings.TrimSpace(line) != "ready" {
		return nil, fmt.Errorf("a process did not become ready: %q, %v", line, err)
	}
	return p, nil
}

func (p *process) result() (float64, error) {
	line, err := p.out.ReadString('\n')
	if err != nil {
		return 0, fmt.Errorf("a process ended early: %w", err)
	}
	if err := p.cmd.Wait(); err != nil {
		return 0, err
	}
	return strconv.ParseFloat(strings.TrimSpace(line), 64)
}
