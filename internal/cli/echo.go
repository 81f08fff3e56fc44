package cli

import "golang.org/x/sys/unix"

// silence turns the echo of a terminal off, so that what is typed as soon as a
// prompt is seen does not show either.
func silence(fd int) error {
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return err
	}
	t.Lflag &^= unix.ECHO
	return unix.IoctlSetTermios(fd, unix.TCSETS, t)
}
