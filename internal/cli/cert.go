package cli

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/client"
)

func (a *app) certCommand() *cobra.Command {
	c := &certs{app: a}
	cmd := a.group("cert", "Issue, show and revoke certificates",
		c.issueCommand(), c.signCommand(), c.revokeCommand(), c.listCommand(), c.showCommand(), c.expiringCommand(),
		c.roleCommand(), c.caCommand())
	cmd.Long = `Certificates of an authority whose key is in the HSM token: a mount of the engine
pki (claviger mount enable pki), which --at names.`
	cmd.Example = "  claviger mount enable pki\n" +
		"  claviger cert ca root --name root --key-type ec --ttl 87600h 'Example Root'\n" +
		"  claviger cert role write --allowed-domain example.com --allow-subdomains --key-type ec --max-ttl 720h web\n" +
		"  claviger cert issue web --common-name www.example.com --out www.pem --key-out www.key\n" +
		"  claviger cert expiring"
	cmd.PersistentFlags().StringVar(&c.at, "at", "pki", "path of the authority's mount")
	return cmd
}

// certs are the commands of an authority.
type certs struct {
	*app
	at string
}

// on makes the function of a command that calls the authority's mount.
func (c *certs) on(run func(ctx context.Context, cl *client.Client, cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return c.with(func(ctx context.Context, cl *client.Client, cmd *cobra.Command, args []string) error {
		return run(ctx, cl.WithMount(c.at), cmd, args)
	})
}

// offer is how long the shell waits for names of the server.
const offer = 2 * time.Second

// names makes the completion of an argument by what list returns.
func (c *certs) names(list func(ctx context.Context, cl *client.Client) ([]string, error)) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(context.Background(), offer)
		defer cancel()
		cl, err := c.client()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		names, err := list(ctx, cl.WithMount(c.at))
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

func roleNames(ctx context.Context, cl *client.Client) ([]string, error) {
	return cl.ListCertRoles(ctx)
}

func serialNumbers(ctx context.Context, cl *client.Client) ([]string, error) {
	l, err := cl.ListCerts(ctx, api.PKICertsQuery{})
	if err != nil {
		return nil, err
	}
	return l.Keys, nil
}

func issuerNames(ctx context.Context, cl *client.Client) ([]string, error) {
	l, err := cl.ListIssuers(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, id := range l.Keys {
		names = append(names, cmp.Or(l.KeyInfo[id].IssuerName, id))
	}
	return names, nil
}

func (c *certs) issuerFlag(cmd *cobra.Command, issuer *string, usage string) {
	cmd.Flags().StringVar(issuer, "issuer", "", usage)
	if err := cmd.RegisterFlagCompletionFunc("issuer", c.names(issuerNames)); err != nil {
		panic(err) // the flag is defined above
	}
}

func (c *certs) roleFlag(cmd *cobra.Command, role *string, usage string) {
	cmd.Flags().StringVar(role, "role", "", usage)
	if err := cmd.RegisterFlagCompletionFunc("role", c.names(roleNames)); err != nil {
		panic(err) // the flag is defined above
	}
}

func (c *certs) listCommand() *cobra.Command {
	var q api.PKICertsQuery
	var revoked bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List certificates",
		Long: `List the certificates that the authority keeps records of, in the order of their
serial numbers. Those of roles with --no-store are not among them.`,
		Example: "  claviger cert list --name '*.example.com'\n  claviger cert list --role web --revoked=false",
		Args:    takes(),
		RunE: c.on(func(ctx context.Context, cl *client.Client, cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("revoked") {
				q.Revoked = &revoked
			}
			l, err := cl.ListCerts(ctx, q)
			if err != nil {
				return err
			}
			if l.Keys == nil {
				l.Keys, l.KeyInfo = []string{}, map[string]api.PKICertInfo{}
			}
			issuers := titles(ctx, cl)
			return c.show(l, func(t *table) {
				t.head = true
				t.add("serial", "common name", "names", "role", "issuer", "expires", "state")
				now := time.Now()
				for _, serial := range l.Keys {
					i := l.KeyInfo[serial]
					t.add(serial, i.CommonName, someNames(i), i.Role, cmp.Or(issuers[i.IssuerID], i.IssuerID), day(i.Expiration), stateOf(i, now))
				}
			})
		}),
	}
	f := cmd.Flags()
	c.roleFlag(cmd, &q.Role, "only those that this role issued")
	c.issuerFlag(cmd, &q.Issuer, "only those of this issuer")
	f.StringVar(&q.Name, "name", "", "only those with a name that fits; * stands for any text")
	f.BoolVar(&revoked, "revoked", false, "only those that are revoked; with =false those that are not")
	f.IntVar(&q.Limit, "limit", 0, "at most so many; 0 for all")
	f.StringVar(&q.After, "after", "", "serial number behind which the list begins")
	return cmd
}

// titles are the names of the issuers by their ids, as far as the caller may know them.
func titles(ctx context.Context, cl *client.Client) map[string]string {
	names := map[string]string{}
	if l, err := cl.ListIssuers(ctx); err == nil {
		for id, i := range l.KeyInfo {
			names[id] = i.IssuerName
		}
	}
	return names
}

// someNames are the alternative names of a certificate beside its common name.
func someNames(i api.PKICertInfo) string {
	names := slices.DeleteFunc(slices.Clone(i.Names), func(n string) bool { return n == i.CommonName })
	if len(names) > 3 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:3], ", "), len(names)-3)
	}
	return strings.Join(names, ", ")
}

// day shows a Unix time for a table.
func day(unix int64) string { return time.Unix(unix, 0).UTC().Format("2006-01-02 15:04Z") }

func stateOf(i api.PKICertInfo, now time.Time) string {
	switch {
	case i.RevocationTime > 0:
		return "revoked"
	case now.Unix() > i.Expiration:
		return "expired"
	case now.Unix() < i.NotBefore:
		return "not yet valid"
	}
	return "valid"
}

func (c *certs) expiringCommand() *cobra.Command {
	var q api.PKICertsQuery
	within := 30 * 24 * time.Hour
	var check bool
	cmd := &cobra.Command{
		Use:   "expiring",
		Short: "List certificates that end soon",
		Long: `List the certificates that are valid now and end within a time, those that end
first on top. Revoked ones are not listed.`,
		Example: "  claviger cert expiring\n  claviger cert expiring --within 72h --check --role web",
		Args:    takes(),
		RunE: c.on(func(ctx context.Context, cl *client.Client, _ *cobra.Command, _ []string) error {
			if within < time.Second {
				return usagef("--within %v: must be a second or more", within)
			}
			q.ExpiresWithin, q.Revoked = seconds(within), new(false)
			l, err := cl.ListCerts(ctx, q)
			if err != nil {
				return err
			}
			slices.SortStableFunc(l.Keys, func(x, y string) int {
				return cmp.Compare(l.KeyInfo[x].Expiration, l.KeyInfo[y].Expiration)
			})
			if err := c.showExpiring(l, time.Now()); err != nil {
				return err
			}
			if check && len(l.Keys) > 0 {
				return &statusError{status: exitError}
			}
			return nil
		}),
	}
	f := cmd.Flags()
	f.DurationVar(&within, "within", within, "they end within this time")
	c.roleFlag(cmd, &q.Role, "only those that this role issued")
	c.issuerFlag(cmd, &q.Issuer, "only those of this issuer")
	f.BoolVar(&check, "check", false, "end with status 1 if there are any")
	return cmd
}

// expiring is a certificate that ends soon.
type expiring struct {
	SerialNumber string   `json:"serial_number"`
	CommonName   string   `json:"common_name"`
	Names        []string `json:"names"`
	Role         string   `json:"role"`
	Expiration   int64    `json:"expiration"`
	DaysLeft     int      `json:"days_left"`
}

// Days from which on a line is coloured.
const (
	urgentDays = 3
	soonDays   = 14
)

func (c *certs) showExpiring(l *api.PKICertList, now time.Time) error {
	rows := make([]expiring, 0, len(l.Keys))
	for _, serial := range l.Keys {
		i := l.KeyInfo[serial]
		left := int(time.Unix(i.Expiration, 0).Sub(now) / (24 * time.Hour))
		rows = append(rows, expiring{serial, i.CommonName, i.Names, i.Role, i.Expiration, left})
	}
	if c.format == "json" {
		return c.showJSON(rows)
	}
	if len(rows) == 0 {
		c.say("No certificate ends within that time.")
		return nil
	}
	t := table{head: true}
	t.add("days left", "expires", "common name", "names", "role", "serial")
	for _, r := range rows {
		t.add(fmt.Sprint(r.DaysLeft), day(r.Expiration), r.CommonName, someNames(l.KeyInfo[r.SerialNumber]), r.Role, r.SerialNumber)
	}
	n := -1 // the heading
	for line := range strings.Lines(t.render()) {
		text := strings.TrimRight(line, "\n")
		switch {
		case n < 0:
		case rows[n].DaysLeft < urgentDays:
			text = c.paintOut("1;31", text)
		case rows[n].DaysLeft < soonDays:
			text = c.paintOut("33", text)
		}
		n++
		if _, err := fmt.Fprintln(c.out, text); err != nil {
			return err
		}
	}
	return nil
}

// paintOut colours text on standard output, if that is a terminal.
func (u *ui) paintOut(code, s string) string {
	if !u.outTTY || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}
