package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// numbers reads a list of process ids.
func numbers(list string) ([]int, error) {
	var pids []int
	for _, s := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' }) {
		pid, err := strconv.Atoi(s)
		if err != nil {
			return nil, fmt.Errorf("-pids: %q is no process id", s)
		}
		pids = append(pids, pid)
	}
	return pids, nil
}

// cpu is the CPU time that processes and their descendants have used so far, from
// /proc/PID/stat, whose clock ticks a hundred times a second.
func cpu(roots []int) time.Duration {
	parent, ticks := map[int]int{}, map[int]int64{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := strings.Cut(string(b), ") ")
		f := strings.Fields(rest)
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if len(f) > 12 {
			parent[pid], _ = strconv.Atoi(f[1])
			user, _ := strconv.ParseInt(f[11], 10, 64)
			system, _ := strconv.ParseInt(f[12], 10, 64)
			ticks[pid] = user + system
		}
	}
	var sum int64
	for pid := range ticks {
		for up := pid; up > 1; up = parent[up] {
			if slices.Contains(roots, up) {
				sum += ticks[pid]
				break
			}
		}
	}
	return time.Duration(sum) * 10 * time.Millisecond
}
