package cli

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/fault"
)

// usageError is a call that is wrong in itself.
type usageError struct{ message, hint string }

func (e *usageError) Error() string { return e.message }

func usagef(format string, args ...any) *usageError {
	return &usageError{message: fmt.Sprintf(format, args...)}
}

// statusError ends the program with a status; an empty message says nothing.
type statusError struct {
	status  int
	message string
}

func (e *statusError) Error() string { return e.message }

// unknownFlag matches what pflag says of a flag that does not exist.
var unknownFlag = regexp.MustCompile(`^unknown flag: --(\S+)$`)

func flagError(cmd *cobra.Command, err error) error {
	e := usagef("%s: %v", cmd.CommandPath(), err)
	m := unknownFlag.FindStringSubmatch(err.Error())
	if m == nil {
		return e
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	if near := config.Nearest(m[1], names); near != "" {
		e.hint = fmt.Sprintf("did you mean --%s?", near)
	}
	return e
}

// report tells the user what went wrong and what to do about it.
func (a *app) report(cmd *cobra.Command, err error) {
	if err.Error() == "" {
		return
	}
	message := err.Error()
	if errors.Is(err, context.Canceled) {
		message = "interrupted"
	}
	a.note(a.red("Error:"), message)
	if hint := a.hint(cmd, err); hint != "" {
		a.note(a.bold("Hint:"), hint)
	}
}

// hint says what to do about err, "" if nothing is known.
func (a *app) hint(cmd *cobra.Command, err error) string {
	if e, ok := errors.AsType[*usageError](err); ok {
		if e.hint != "" {
			return e.hint
		}
		return fmt.Sprintf("%s --help shows how it is called", cmd.CommandPath())
	}
	if h := fault.HintOf(err); h != "" {
		return h
	}
	if e, ok := errors.AsType[*api.Error](err); ok {
		return answerHint(e)
	}
	return wayHint(err)
}

// answerHint explains what a server answered.
func answerHint(e *api.Error) string {
	if hint := e.Hint(); hint != "" {
		return hint
	}
	switch e.Status {
	case http.StatusForbidden:
		return "the client token is missing, expired, or its policies do not allow this; claviger login stores another"
	case http.StatusServiceUnavailable:
		if strings.Contains(e.Error(), "sealed") {
			return "custodians open it with claviger unseal"
		}
		return "try again; claviger status shows the server's state"
	case http.StatusNotFound:
		return "nothing has this name here; check the name and --mount"
	}
	return ""
}

// wayHint explains why a server was not reached.
func wayHint(err error) string {
	_, dns := errors.AsType[*net.DNSError](err)
	_, authority := errors.AsType[x509.UnknownAuthorityError](err)
	_, name := errors.AsType[x509.HostnameError](err)
	switch {
	case authority:
		return "--ca-cert or CLAVIGER_CACERT names the authority that issued the server's certificate"
	case name:
		return "use an address with a name that the certificate holds"
	case strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return "the server speaks plain HTTP: write http:// in its address"
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOENT) && strings.Contains(err.Error(), "dial unix"), dns:
		return "is the server running? --address or CLAVIGER_ADDR says where"
	case errors.Is(err, context.DeadlineExceeded):
		return "the server did not answer in time; claviger status shows its state"
	}
	return ""
}
