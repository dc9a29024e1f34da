package server

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/pprof"
	"strings"
	"sync"

	"github.com/qrjump/qrjump/docs"
	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/domain/auditlog"
	"github.com/qrjump/qrjump/internal/domain/scan"
	"github.com/qrjump/qrjump/internal/edge/adminapi"
	"github.com/qrjump/qrjump/internal/edge/api"
	"github.com/qrjump/qrjump/internal/edge/consent"
	"github.com/qrjump/qrjump/internal/edge/console"
	"github.com/qrjump/qrjump/internal/edge/guide"
	"github.com/qrjump/qrjump/internal/edge/scanapi"
	"github.com/qrjump/qrjump/internal/emulator"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/infra/adminroute"
	"github.com/qrjump/qrjump/internal/infra/connlimit"
	"github.com/qrjump/qrjump/internal/infra/version"
	"github.com/qrjump/qrjump/internal/store"
)

// handler returns the routes of one listener.
func (s *Server) handler(role listenerRole) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /readyz", s.readiness().ready)
	s.mountCA(mux)
	tables := s.operations()
	mountOpenAPI(mux, tables)
	// A page of another origin must not send requests with the credentials of the browser's user.
	sameOrigin := http.NewCrossOriginProtection()
	sameOrigin.SetDenyHandler(http.HandlerFunc(refuseOrigin))
	if role&scans != 0 {
		scanMux := http.NewServeMux()
		s.scanAPI().Register(scanMux)
		mux.Handle("/scan/", sameOrigin.Handler(orProblem(scanMux)))
	}
	if role&admin != 0 {
		s.mountGuide(mux)
		adminMux := http.NewServeMux()
		for _, t := range tables {
			t.Mount(adminMux)
		}
		pages := s.console(asJSON(orProblem(adminMux))).Handler()
		mux.Handle(console.Root, pages)
		mux.Handle(console.Root+"/", pages)
		mux.Handle("/admin/", s.access().adminOnly(sameOrigin.Handler(asJSON(orProblem(adminMux)))))
		mux.Handle("GET /metrics", s.access().adminOnly(adminroute.RequireRole(adminroute.Viewer, s.metrics.handler())))
		mux.Handle("GET /debug/pprof/", s.access().adminOnly(adminroute.RequireRole(adminroute.Admin, profiles())))
		mux.Handle("GET /debug/slow-statements", s.access().adminOnly(adminroute.RequireRole(adminroute.Admin, s.slowStatements())))
	}
	s.mountElsewhere(mux, role)
	links := s.links()
	if role&wire != 0 {
		agree := s.consentPage()
		for _, path := range consent.Paths {
			mux.Handle(path, agree)
		}
		s.serving.wireCalls = s.wireAPI().Handler()
		calls := s.access().ownOrigin(s.serving.wireCalls)
		mux.Handle("/", links.Orphan(calls))
		s.mountFirstPage(mux, role, calls)
		return links.Middleware(s.pages(direct(calls, mux)))
	}
	mux.HandleFunc("/", noSuchPath)
	s.mountFirstPage(mux, role, http.HandlerFunc(noSuchPath))
	if role&scans != 0 {
		return links.Middleware(mux)
	}
	return mux
}

// slowStatements serves the slow SQL statements of this node as JSON.
func (s *Server) slowStatements() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(s.store.SlowStatements())
	})
}

// profiles serves the profiles of net/http/pprof.
func profiles() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}

// asJSON treats a body with the content type of a form as JSON, because curl -d sends this content type, and no operation accepts forms.
// Other middleware rejects forms from pages of another origin before asJSON runs.
func asJSON(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); kind == "application/x-www-form-urlencoded" {
			r.Header.Set("Content-Type", "application/json")
		}
		next.ServeHTTP(w, r)
	})
}

// mountGuide serves the documentation, which shows no data of this server except its address.
func (s *Server) mountGuide(mux *http.ServeMux) {
	pages := sync.OnceValues(func() (*guide.Guide, error) { return guide.New(docs.Pages, s.URL, version.Number()) })
	show := func(w http.ResponseWriter, r *http.Request) {
		g, err := pages()
		if err != nil {
			s.log.ErrorContext(r.Context(), "documents not readable", "error", err)
			scanapi.WriteProblem(w, http.StatusInternalServerError, "the documents cannot be read")
			return
		}
		g.ServeHTTP(w, r)
	}
	mux.HandleFunc("GET "+strings.TrimSuffix(guide.Root, "/"), show)
	mux.HandleFunc("GET "+guide.Root, show)
	for _, asset := range guide.Assets {
		mux.Handle("GET "+asset.Path(), asset)
	}
}

// direct calls the handler of the wire API without the mux, which would choose the same handler but is slower; most calls are wire calls.
func direct(calls http.Handler, mux *http.ServeMux) http.Handler {
	paths := map[string]bool{}
	for _, path := range api.Paths() {
		paths[path] = true
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if paths[r.URL.Path] && r.Method != http.MethodConnect {
			calls.ServeHTTP(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// orProblem responds to unknown paths and methods with a problem document.
func orProblem(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h, pattern := mux.Handler(r)
		if pattern != "" {
			mux.ServeHTTP(w, r) // the mux also sets the path values, which a direct call of h would not do
			return
		}
		// The mux's handler for an unmatched request responds with 405 if only the method is wrong.
		probe := &discarded{header: http.Header{}}
		h.ServeHTTP(probe, r)
		if probe.status == http.StatusMethodNotAllowed {
			w.Header().Set("Allow", probe.header.Get("Allow"))
			scanapi.WriteProblem(w, probe.status, "this path needs "+probe.header.Get("Allow"))
			return
		}
		noSuchPath(w, r)
	})
}

func (s *Server) wireAPI() *api.API {
	a := &api.API{Accounts: s.domain.accounts, Calls: s.domain.usage, Rules: s.domain.rules, Codes: s.domain.codes,
		Settings: s.chosen.settings, Log: s.log, Now: s.now, RealNow: s.realNow,
		Random: s.random, ClientIP: s.access().clientIP, BodyTimeout: s.testHooks.BodyTimeout, Observe: s.metrics.observeCall,
		OnAuthenticated: connlimit.Authenticated, OnRejected: connlimit.Rejected}
	if s.store.Shared() {
		a.Shared = s.store.RateLimits().Allow
	}
	if s.config.emulates() {
		s.emulation.wire = a
		a.Record = func(record api.Record) {
			s.serving.arrivals.calls.Add(1)
			s.emulation.calls.Add(record)
		}
		a.TracePathPrefix = s.tracePathPrefix()
		a.PageOf = func(rid string) string { return s.AdminURL + console.Root + "/calls/" + rid }
		a.Canned = func(method, path string) (api.CannedResponse, bool) {
			f, ok := s.emulation.plan.NextResponse(method, path)
			if !ok {
				return api.CannedResponse{}, false
			}
			body, kind := f.Response.Text()
			return api.CannedResponse{Status: f.Response.Status, Body: body, ContentType: kind, Delay: f.Delay}, true
		}
		a.Faults = func(path, appid string) api.Fault {
			f, ok := s.emulation.plan.Next(path, appid)
			if !ok {
				return api.Fault{}
			}
			return wireFault(f)
		}
	}
	return a
}

// wireFault converts an injected fault of the emulator to a fault of the wire API.
func wireFault(f emulator.Fault) api.Fault {
	fault := api.Fault{After: f.After, Delay: f.Delay, Drop: f.Drop, DropAfter: f.DropAfter}
	if f.ErrCode == nil {
		return fault
	}
	code, known := errcode.ByNumber(*f.ErrCode)
	if !known {
		code = &errcode.Code{Number: *f.ErrCode, Text: "injected fault", Evidence: behaviour.Inferred}
	}
	if f.ErrMsg != "" {
		code = code.Reworded("%s", f.ErrMsg)
	}
	fault.Code = code
	return fault
}

func (s *Server) scanAPI() *scanapi.API {
	a := &scanapi.API{Resolver: scan.Resolver{Finder: s.domain.current.Rules, Accounts: s.domain.current.Accounts, Codes: s.domain.codes,
		Products: s.domain.products}, Near: s.domain.rules.NearestRules, Codes: s.domain.codes, TicketWriter: s.domain.ticketWriter,
		Record: s.scanning.scanLog.record, RespondEarly: s.isAsync, IsDiskSlow: s.scanning.scanLog.recorder.IsLate, UserHash: s.userHash,
		Region: s.scans().region(), Unrecorded: s.metrics.observeUnrecorded, Accounts: s.domain.accounts, OpenIDs: s.secrets.openIDs,
		Now: s.now, Random: s.random, Replay: s.config.emulates(), BodyTimeout: s.testHooks.BodyTimeout, Log: s.log,
		Observe: s.metrics.observeScan, OnAuthenticated: connlimit.Authenticated, OnRejected: connlimit.Rejected}
	if !s.config.Dev {
		a.Key, a.Operator = s.domain.keys.Check, s.access().mayExplain
		a.OnInvalidKey = func(r *http.Request, key string) bool {
			return s.access().refuseAt(r, scanKeyKind, keyMark(key, "qrs_"))
		}
	}
	return a
}

// operations returns the operations of the admin API and of the emulator.
func (s *Server) operations() []adminroute.Table {
	a := &adminapi.Admin{Accounts: s.domain.accounts, Known: s.domain.current.Accounts.Account, InMemory: s.domain.current.Accounts.All,
		Rules: s.domain.rules, RuleCount: s.domain.current.Rules.Len, Codes: s.domain.codes, Orders: s.orders(),
		PackageSigner: s.domain.packageSigner, PassphraseWork: s.testHooks.PassphraseWork,
		OpenIDs: s.secrets.openIDs, Keys: s.domain.keys, Settings: s.chosen.settings,
		People: s.domain.people, Shared: s.sharedCharts(),
		Appearances: s.domain.appearances, Products: s.domain.products, ConsoleURL: func() string { return s.AdminURL + console.Root },
		SaveSettings: s.settings().changeSettings, AssignGS1Prefix: s.settings().assignGS1Prefix,
		ResetSetting: s.settings().resetSetting, DefaultSettings: s.settings().defaultSettings,
		StoredSettings: s.settings().storedSettings,
		ChangeHead: func(ctx context.Context) (int64, error) {
			seq, _, err := s.store.ChangeHead(ctx)
			return seq, err
		},
		Desk: s.domain.ticketWriter, Calls: s.domain.usage, Call: s.call, Webhooks: s.webhooks, Rechecks: s.rechecks,
		LookAtFile: s.requests().inspectFile,
		Export:     s.export, ImportAccounts: s.importAccounts,
		Spool:   s.config.Data,
		Refused: s.access().refusedCredentials,
		Scans:   s.scanning.counter, Alarms: s.scanning.alarms, Lake: s.scanning.scanLog.lake, UserHash: s.userHash, Log: s.log,
		Following: s.domain.current, History: s.store, Times: auditlog.PointInTime{Store: s.store, Codes: s.domain.codes},
		Resolver: scan.Resolver{Finder: s.domain.current.Rules, Accounts: s.domain.current.Accounts, Codes: s.domain.codes,
			Products: s.domain.products},
		ScanLog: func() scanlog.Log { return s.scanning.counter.Log }, Now: s.now}
	guard := a.Guard()
	if s.config.DatabaseRead != "" {
		guard.Stale, guard.AsOf = store.WithReplica, store.AsOf
	}
	tables := []adminroute.Table{{Tag: "admin", Routes: a.Operations(), Guard: guard, Problem: a.Problem, Log: s.log}}
	if s.config.emulates() {
		control := &emulator.Control[api.Record]{Clock: s.emulation.clock, Plan: s.emulation.plan, Calls: s.emulation.calls,
			About: func(r api.Record) emulator.Properties {
				path, _, _ := strings.Cut(r.URL, "?")
				return emulator.Properties{RID: r.RID, Account: r.Account, Path: path, ErrCode: r.ErrCode}
			},
			Paths: api.Paths(), Has: func(ctx context.Context, appid string) bool {
				_, err := s.domain.accounts.Get(ctx, appid)
				_, noPlatform := s.domain.accounts.GetComponent(ctx, appid)
				return err == nil || noPlatform == nil
			}, Reset: s.seeder().reset, ResetAccounts: s.seeder().resetAccounts, AddSeed: s.seeder().addSeed,
			Platforms: s.platformControls(),
			Snapshots: s.seeder().snapshotControls()}
		control.Wrong = func(err error) bool { return errors.Is(err, ErrUsage) }
		tables = append(tables, adminroute.Table{Tag: "emulator", Routes: control.Operations(), Problem: a.Problem, Log: s.log})
	}
	return tables
}
