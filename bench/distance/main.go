// Distance puts a network's delay between a program and a server on the same
// machine: what comes in leaves so much later, each way, in order.
//
//	distance -listen unix:/tmp/far.sock -to unix:/tmp/near.sock -delay 500us
//
// It prints where it listens when it does. Making a connection takes no time here;
// bandwidth is not limited, nothing is lost.
package main

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

func main() {
	listen := flag.String("listen", "", "where programs connect: unix:PATH or HOST:PORT")
	to := flag.String("to", "", "where the server is: unix:PATH or HOST:PORT")
	delay := flag.Duration("delay", 500*time.Microsecond, "the delay each way")
	flag.Parse()
	if err := run(*listen, *to, *delay); err != nil {
		fmt.Fprintln(os.Stderr, "distance:", err)
		os.Exit(1)
	}
}

func run(listen, to string, delay time.Duration) error {
	l, err := net.Listen(network(listen))
	if err != nil {
		return err
	}
	fmt.Println(listen)
	for {
		near, err := l.Accept()
		if err != nil {
			return err
		}
		far, err := net.Dial(network(to))
		if err != nil {
			return errors.Join(err, near.Close())
		}
		go carry(far, near, delay)
		go carry(near, far, delay)
	}
}

func network(address string) (network, path string) {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		return "unix", path
	}
	return "tcp", address
}

// piece is what was read at once, and when it leaves.
type piece struct {
	data []byte
	due  time.Time
}

// carry takes bytes one way until an end closes; then it closes both.
func carry(to, from net.Conn, delay time.Duration) {
	pieces := make(chan piece, 1024)
	go func() {
		defer close(pieces)
		for {
			data := make([]byte, 64<<10)
			n, err := from.Read(data)
			if err != nil {
				return
			}
			pieces <- piece{data[:n], time.Now().Add(delay)}
		}
	}()
	for p := range pieces {
		sleep(time.Until(p.due))
		if _, err := to.Write(p.data); err != nil {
			break
		}
	}
	_ = to.Close()
	_ = from.Close()
	for range pieces { // the reader ends
	}
}

// sleep is as exact as the kernel: a timer of Go's may end a millisecond late
// when nothing else happens.
func sleep(d time.Duration) {
	if d > 0 {
		ts := syscall.NsecToTimespec(d.Nanoseconds())
		_ = syscall.Nanosleep(&ts, nil)
	}
}
