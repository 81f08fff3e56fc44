package daemon

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
)

// Listen opens a Unix socket with permissions. It removes the socket that an ended
// server left, but not one that
// somebody listens on. The permissions are set before anybody can connect.
func Listen(path string, mode os.FileMode) (net.Listener, error) {
	if conn, err := net.Dial("unix", path); err == nil {
		conn.Close()
		return nil, errors.New("another server listens on this socket")
	}
	if info, err := os.Lstat(path); err == nil {
		if info.Mode()&os.ModeSocket == 0 {
			return nil, errors.New("there is a file of this name that is no socket")
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("removing the socket of an ended server: %w", err)
		}
	}
	before := syscall.Umask(0o777 &^ int(mode))
	defer syscall.Umask(before)
	return net.Listen("unix", path)
}
