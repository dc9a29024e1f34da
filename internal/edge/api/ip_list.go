package api

import (
	"context"
	"net"
	"net/http"

	"github.com/qrjump/qrjump/internal/contract/settings"
)

type ipReply struct {
	List []string `json:"ip_list"`
}

// apiIPs lists where calls are served. Contract: rules 3.1.
func (a *API) apiIPs(ctx context.Context, _ *call, _ *fields) (any, error) {
	return ipReply{addresses(ctx, a.Settings.Get().APIIPs)}, nil
}

// callbackIPs lists where pushes come from. Contract: rules 3.1.
func (a *API) callbackIPs(ctx context.Context, _ *call, _ *fields) (any, error) {
	return ipReply{addresses(ctx, a.Settings.Get().CallbackIPs)}, nil
}

// addresses returns those that the operator set. Without them it is the one at which this call arrived:
// the only one that the machine knows for certain.
func addresses(ctx context.Context, set settings.Addresses) []string {
	if len(set) > 0 {
		return set
	}
	if localAddr, ok := ctx.Value(http.LocalAddrContextKey).(*net.TCPAddr); ok {
		return []string{localAddr.AddrPort().Addr().Unmap().WithZone("").String()}
	}
	return []string{}
}
