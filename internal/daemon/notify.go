package daemon

import (
	"log/slog"
	"net"
	"os"
)

// Ready tells systemd that the program answers (sd_notify(3)). Without
// NOTIFY_SOCKET it does nothing.
func Ready(log *slog.Logger) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	if path[0] == '@' {
		path = "\x00" + path[1:] // an abstract socket
	}
	conn, err := net.Dial("unixgram", path)
	if err != nil {
		log.Warn("telling systemd that the program is ready", "error", err)
		return
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("READY=1")); err != nil {
		log.Warn("telling systemd that the program is ready", "error", err)
	}
}
