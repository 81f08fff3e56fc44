package client

import (
	"context"
	"net/http"

	"github.com/claviger/claviger/api"
)

const transferPath = "sys/transfer/"

// PrepareTransfer makes a KEKEK in the server's HSM token, for keys that come there.
func (c *Client) PrepareTransfer(ctx context.Context, r api.PrepareTransfer) (*api.PreparedTransfer, error) {
	return call[api.PreparedTransfer](ctx, c, request{method: http.MethodPut, path: transferPath + "prepare", body: r})
}

// StartTransfer begins to export keys; custodians must confirm it.
func (c *Client) StartTransfer(ctx context.Context, r api.StartTransfer) (*api.TransferStatus, error) {
	return call[api.TransferStatus](ctx, c, request{method: http.MethodPut, path: transferPath + "export", body: r})
}

// TransferStatus describes the export under way; ErrNotFound if there is none.
func (c *Client) TransferStatus(ctx context.Context) (*api.TransferStatus, error) {
	return call[api.TransferStatus](ctx, c, request{method: http.MethodGet, path: transferPath + "export", repeat: true})
}

// CancelTransfer ends the export under way.
func (c *Client) CancelTransfer(ctx context.Context) error {
	return c.do(ctx, request{method: http.MethodDelete, path: transferPath + "export", repeat: true})
}

// ConfirmTransfer gives a custodian's share for an export. It is never sent twice.
func (c *Client) ConfirmTransfer(ctx context.Context, r api.ConfirmTransfer) (*api.TransferStatus, error) {
	return call[api.TransferStatus](ctx, c, request{method: http.MethodPut, path: transferPath + "confirm", body: r})
}

// FetchTransfer returns a line of a confirmed export, with its end of line.
func (c *Client) FetchTransfer(ctx context.Context, r api.FetchTransfer) (string, error) {
	a, err := call[api.TransferLine](ctx, c, request{method: http.MethodPut, path: transferPath + "fetch", body: r, repeat: true})
	if err != nil {
		return "", err
	}
	return a.Line, nil
}

// StartImport begins, or resumes, the import of a ring.
func (c *Client) StartImport(ctx context.Context, r api.StartImport) (*api.ImportStatus, error) {
	return call[api.ImportStatus](ctx, c, request{method: http.MethodPut, path: transferPath + "import", body: r, repeat: true})
}

// ImportLine imports the next line of a ring. One that was imported already changes nothing.
func (c *Client) ImportLine(ctx context.Context, r api.ImportLine) (*api.ImportStatus, error) {
	return call[api.ImportStatus](ctx, c, request{method: http.MethodPut, path: transferPath + "import/line", body: r, repeat: true})
}
