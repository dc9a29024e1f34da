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

// apiIPs returns the addresses at which the server receives calls. Contract: rules §3.1.
func (a *API) apiIPs(ctx context.Context, _ *call, _ *fields) (any, error) {
	return ipReply{addresses(ctx, a.Settings.Get().APIIPs)}, nil
}

// callbackIPs returns the addresses from which the server sends pushes. Contract: rules §3.1.
func (a *API) callbackIPs(ctx context.Context, _ *call, _ *fields) (any, error) {
	return ipReply{addresses(ctx, a.Settings.Get().CallbackIPs)}, nil
}

// addresses returns the addresses that the operator configured. Without configured addresses, the result is the local address at
// which this call arrived, the only address known for certain.
func addresses(ctx context.Context, set settings.Addresses) []string {
	if len(set) > 0 {
		return set
	}
	if localAddr, ok := ctx.Value(http.LocalAddrContextKey).(*net.TCPAddr); ok {
		return []string{localAddr.AddrPort().Addr().Unmap().WithZone("").String()}
	}
	return []string{}
}
