package worker

import (
	"os/exec"
	"syscall"
)

// dieWithParent has the kernel kill a worker when the server dies, even if the
// worker hangs in its module and would not see the socket close.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
