package adminapi

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/qrjump/qrjump/internal/rules"
)

func (a *Admin) registerDomains(api huma.API) {
	type domain struct {
		Host   string             `json:"host"`
		Status rules.DomainStatus `json:"status"`
		At     time.Time          `json:"at"`
	}
	type domainList struct {
		Domains []domain `json:"domains"`
	}
	type HostPath struct {
		Host string `path:"host" maxLength:"300"`
	}
	all := func(ctx context.Context) (*answer[domainList], error) {
		domains, err := a.Rules.Domains(ctx)
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		shown := domainList{Domains: []domain{}}
		for _, d := range domains {
			shown.Domains = append(shown.Domains, domain{d.Host, d.Status, d.At})
		}
		return &answer[domainList]{shown}, nil
	}
	set := func(ctx context.Context, host string, status rules.DomainStatus) (*answer[domainList], error) {
		if err := a.Rules.SetDomain(ctx, host, status); err != nil {
			return nil, a.problem(ctx, err)
		}
		return all(ctx)
	}
	huma.Register(api, operation(http.MethodGet, "/domains", "listDomains", "Hosts that are trusted or denied"), func(ctx context.Context, _ *struct{}) (*answer[domainList], error) {
		return all(ctx)
	})
	huma.Register(api, operation(http.MethodPut, "/domains/{host}", "putDomain", "Trust a host, or deny it and those below it"), func(ctx context.Context, in *struct {
		HostPath
		Body struct {
			Status rules.DomainStatus `json:"status" enum:"trusted,denied,no_icp"`
		}
	}) (*answer[domainList], error) {
		return set(ctx, in.Host, in.Body.Status)
	})
	huma.Register(api, operation(http.MethodDelete, "/domains/{host}", "deleteDomain", "Say nothing of a host any more"), func(ctx context.Context, in *HostPath) (*answer[domainList], error) {
		return set(ctx, in.Host, "")
	})
}
