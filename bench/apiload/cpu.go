package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// cpu reads what a process and its children used, from /proc. A zero pid reads nothing.
type cpu struct {
	pid    int
	before float64
}

func newCPU(pid int) *cpu {
	c := &cpu{pid: pid}
	c.before = c.seconds()
	return c
}

// cores is the use of CPU since newCPU, in cores.
func (c *cpu) cores(elapsed float64) float64 { return (c.seconds() - c.before) / elapsed }

func (c *cpu) seconds() float64 {
	var ticks float64
	for _, pid := range c.tree() {
		if f := stat(pid); len(f) > 14 {
			user, _ := strconv.ParseFloat(f[11], 64)
			system, _ := strconv.ParseFloat(f[12], 64)
			ticks += user + system
		}
	}
	return ticks / 100 // USER_HZ
}

// rss is the resident memory of the process and its children in MiB.
func (c *cpu) rss() float64 {
	var pages float64
	for _, pid := range c.tree() {
		if f := stat(pid); len(f) > 21 {
			n, _ := strconv.ParseFloat(f[21], 64)
			pages += n
		}
	}
	return pages * float64(os.Getpagesize()) / (1 << 20)
}

// tree is the process and its direct children.
func (c *cpu) tree() []int {
	if c.pid == 0 {
		return nil
	}
	pids := []int{c.pid}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if f := stat(pid); len(f) > 1 && f[1] == strconv.Itoa(c.pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// stat returns the fields of /proc/PID/stat from the third (state) on.
func stat(pid int) []string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	_, rest, ok := strings.Cut(string(b), ") ")
	if !ok {
		return nil
	}
	return strings.Fields(rest)
}
