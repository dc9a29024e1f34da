package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/qrjump/qrjump/internal/edge/api"
	"github.com/qrjump/qrjump/internal/edge/console"
)

// The problem types (RFC 9457) of responses to calls at the wrong listener or with an unknown path. The qrjump client uses the
// problem type to distinguish a wrong listener from a missing resource.
const (
	elsewhereType = "urn:qrjump:problem:wrong-listener"
	noPathType    = "urn:qrjump:problem:no-such-path"
)

// surfaceFlags maps each API to its name and to the flag that sets its address.
var surfaceFlags = map[listenerRole][2]string{
	wire: {"the platform API", "--listen"}, scans: {"the scan API", "--scan-listen"}, admin: {"the admin API", "--admin-listen"}}

// wrongListener responds with 421 (RFC 9110, 15.5.20) to calls for an API that another listener of this server serves. The response names
// the flag of the right listener and not its address, because the caller may be untrusted; an operator finds the address in --data.
func (s *Server) wrongListener(role listenerRole) http.HandlerFunc {
	name, flag := surfaceFlags[role][0], s.flagOf(role)
	detail := fmt.Sprintf("%s is served by another listener of this server (flag %s), whose address is in the file %s of "+
		"the data directory", name, flag, addressesFile)
	return func(w http.ResponseWriter, _ *http.Request) {
		writeProblemType(w, http.StatusMisdirectedRequest, elsewhereType, detail)
	}
}

// mountElsewhere makes a listener respond to requests for APIs that it does not serve; the response names the right listener. To unknown
// paths, the wire listener responds as the platform does.
func (s *Server) mountElsewhere(mux *http.ServeMux, role listenerRole) {
	paths := map[listenerRole][]string{scans: {"/scan", "/scan/"}, wire: {"/cgi-bin", "/cgi-bin/"},
		admin: {"/admin", "/admin/", "/metrics", "/debug/", console.Root, console.Root + "/", "/docs", "/docs/"}}
	seen := map[string]bool{"cgi-bin": true}
	for _, path := range api.Paths() {
		family, _, deeper := strings.Cut(strings.TrimPrefix(path, "/"), "/")
		if deeper && !seen[family] {
			seen[family] = true
			paths[wire] = append(paths[wire], "/"+family, "/"+family+"/")
		}
	}
	for otherRole, list := range paths {
		if role&otherRole != 0 {
			continue
		}
		for _, path := range list {
			mux.HandleFunc(path, s.wrongListener(otherRole))
		}
	}
}

func noSuchPath(w http.ResponseWriter, _ *http.Request) {
	writeProblemType(w, http.StatusNotFound, noPathType, "no operation has this path; /openapi.json lists all paths")
}

func writeProblemType(w http.ResponseWriter, status int, kind, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(huma.ErrorModel{Type: kind, Title: http.StatusText(status), Status: status, Detail: detail})
}
