package server

import (
	"cmp"
	"net/http"
	"reflect"
	"sync"

	"github.com/danielgtaylor/huma/v2"

	"github.com/qrjump/qrjump/docs"
	"github.com/qrjump/qrjump/internal/edge/scanapi"
	"github.com/qrjump/qrjump/internal/infra/adminroute"
	"github.com/qrjump/qrjump/internal/infra/version"
)

// mountOpenAPI serves the OpenAPI documents. That of the operations describes all APIs, even those that this listener does not serve. It
// needs no credentials and takes milliseconds to generate, so it is generated only once, for the first request.
func mountOpenAPI(mux *http.ServeMux, tables []adminroute.Table) {
	documents := map[string]func() ([]byte, error){"/openapi-wire.json": func() ([]byte, error) { return docs.Wire, nil },
		"/openapi.json": sync.OnceValues(func() ([]byte, error) { return openAPI(tables).MarshalJSON() })}
	for path, document := range documents {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			b, err := document()
			if err != nil {
				scanapi.WriteProblem(w, http.StatusInternalServerError, "the document cannot be written")
				return
			}
			w.Header().Set("Content-Type", "application/openapi+json")
			w.Write(b)
		})
	}
}

// openAPI returns the OpenAPI document of the scan API and of the operations.
func openAPI(tables []adminroute.Table) *huma.OpenAPI {
	schemas := huma.NewMapRegistry("#/components/schemas/", func(t reflect.Type, hint string) string {
		name := huma.DefaultSchemaNamer(t, hint)
		return cmp.Or(schemaNames[name], name)
	})
	document := &huma.OpenAPI{OpenAPI: "3.1.0", Info: &huma.Info{Title: "qrjump", Version: version.Number(),
		Description: "The APIs of qrjump: scan API, admin API and emulator. /openapi-wire.json describes the platform's calls.",
		License:     &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"},
		Contact:     &huma.Contact{Name: "qrjump", URL: "https://github.com/qrjump/qrjump"}},
		Servers: []*huma.Server{{URL: "/", Description: "this server"}},
		Tags: []*huma.Tag{{Name: "scan", Description: "scan API, for scanning apps"},
			{Name: "admin", Description: "admin API, for operators"}, {Name: "emulator", Description: "with --dev or --emulator"}},
		Components: &huma.Components{Schemas: schemas, SecuritySchemes: map[string]*huma.SecurityScheme{
			"admin": {Type: "http", Scheme: "bearer", Description: "the admin token"},
			"scan":  {Type: "http", Scheme: "bearer", Description: "a scan key"}}}}
	scanapi.Describe(document)
	for _, t := range tables {
		t.Describe(document)
	}
	return document
}

// schemaNames maps names of Go types to better schema names. The Go names are unclear without their package, or break generated code: the
// code generator ogen fails with Request, and Record is a global type of TypeScript.
var schemaNames = map[string]string{
	"CallListRecord": "CallRecordList", "Case": "AlarmCase", "Change": "AuditEntry", "Checked": "AuditVerification",
	"Difference": "RecountDifference", "Drill": "BackupDrill", "Imported": "ImportResult", "Item": "GS1LinkInput", "Matched": "ScanMatch",
	"Notification": "AccountNotification", "Record": "CallRecord", "Request": "ScanRequest", "Step": "ExplanationStep",
}
