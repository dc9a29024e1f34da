package client

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"time"
)

// The three APIs, as WrongServer names them.
const (
	apiWire  = "wire"
	apiScan  = "scan API"
	apiAdmin = "admin API"
)

// apiOf returns the API that a path belongs to.
func apiOf(path string) string {
	switch {
	case strings.HasPrefix(path, "/admin/"):
		return apiAdmin
	case strings.HasPrefix(path, "/scan/"):
		return apiScan
	}
	return apiWire
}

// WrongServer says that an answer is not one of the API that was called: another program answers at
// the address, or another listener of the server, or a qrjump of another version. It may have done
// what was asked: check before you repeat the call.
type WrongServer struct {
	URL  string // base URL that was called
	API  string // wire, scan API or admin API
	Call string // method and path
	Flaw string // what is wrong with the answer
	// NoSuchCall says that a qrjump answered and does not have the call: it is of another version,
	// or runs without the part that the call is for, such as the emulator.
	NoSuchCall bool
}

func (w *WrongServer) Error() string {
	return fmt.Sprintf("%s: %s does not answer like the %s (%s); check the address", w.Call, w.URL, w.API, w.Flaw)
}

// wrong returns the error for an answer that is not one of the API that was called.
func (c *transport) wrong(method, path, flaw string, args ...any) error {
	return &WrongServer{URL: c.baseOf(path), API: apiOf(path), Call: method + " " + path, Flaw: fmt.Sprintf(flaw, args...)}
}

// The types of problems that say that a call came to the wrong place.
const (
	problemElsewhere = "urn:qrjump:problem:wrong-listener"
	problemNoPath    = "urn:qrjump:problem:no-such-path"
)

// refused returns the error for an answer without success: a *Problem, or a *WrongServer where no API of
// qrjump refused the call.
func (c *transport) refused(method, path string, a answer) error {
	p, is := ReadProblem(a.status, a.body)
	if !is {
		return c.wrong(method, path, "%s: %s", strings.TrimSpace(fmt.Sprint(a.status, " ", http.StatusText(a.status))), excerpt(a.body))
	}
	if p.Type == problemElsewhere || p.Type == problemNoPath {
		return &WrongServer{URL: c.baseOf(path), API: apiOf(path), Call: method + " " + path,
			Flaw: fmt.Sprintf("%d: %s", a.status, p.Detail), NoSuchCall: p.Type == problemNoPath}
	}
	return p
}

// ReadProblem reads an answer without success, for callers that read answers themselves. is is false where the answer is no
// problem document; the problem then has the status alone.
func ReadProblem(status int, body []byte) (p *Problem, is bool) {
	p = &Problem{}
	if json.Unmarshal(body, p) != nil || p.Title == "" && p.Detail == "" {
		return &Problem{Title: http.StatusText(status), Status: status}, false
	}
	p.Status = status
	return p, true
}

// readAnswer reads a successful answer of the scan or the admin API into reply, a pointer to a
// struct. Every call has such an answer: without it, it is not taken for done.
func (c *transport) readAnswer(method, path string, a answer, reply any) error {
	if a.status/100 != 2 {
		return c.refused(method, path, a)
	}
	if c.options.Inside {
		if err := json.Unmarshal(a.body, reply); err != nil {
			return c.wrong(method, path, "%v in %s", err, excerpt(a.body))
		}
	} else if flaw := decode(a.body, reply, false); flaw != "" {
		return c.wrong(method, path, "%s", flaw)
	}
	return nil
}

// decode reads a JSON object into reply, a pointer to a struct, and returns what
// is wrong with it, "" if all is well. Every field must be there, so that
// another program's JSON is never taken for an empty answer. Only these may be
// missing: pointers, fields with omitempty or omitzero, and those that say
// `answer:"optional"`. errcode is wrong unless reply has it, or wire allows it.
func decode(body []byte, reply any, wire bool) (flaw string) {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(body, &object); err != nil || object == nil {
		return "no JSON object: " + excerpt(body)
	}
	t := reflect.TypeOf(reply).Elem()
	if code, ok := object["errcode"]; ok && !wire && !hasField(t, "errcode") {
		var text string
		_ = json.Unmarshal(object["errmsg"], &text) // extra; the number says enough
		return excerpt([]byte("errcode " + string(code) + " " + text))
	}
	if name := missing(t, body); name != "" {
		return fmt.Sprintf("%s is missing in %s", name, excerpt(body))
	}
	if err := json.Unmarshal(body, reply); err != nil {
		return fmt.Sprintf("%v in %s", err, excerpt(body))
	}
	return ""
}

var (
	timeType = reflect.TypeFor[time.Time]()
	rawType  = reflect.TypeFor[json.RawMessage]()
)

// missing names the first field of a type that a JSON object lacks. Other JSON is left to
// encoding/json.
func missing(t reflect.Type, body json.RawMessage) string {
	switch {
	case t.Kind() == reflect.Pointer:
		return missing(t.Elem(), body)
	case t == timeType || t == rawType || string(bytes.TrimSpace(body)) == "null":
		return ""
	case t.Kind() == reflect.Slice && holdsStructs(t.Elem()):
		var list []json.RawMessage
		if json.Unmarshal(body, &list) != nil {
			return ""
		}
		for i, raw := range list {
			if name := missing(t.Elem(), raw); name != "" {
				return fmt.Sprintf("[%d].%s", i, name)
			}
		}
	case t.Kind() == reflect.Struct:
		var object map[string]json.RawMessage
		if json.Unmarshal(body, &object) != nil {
			return ""
		}
		return missingField(t, object)
	}
	return ""
}

func missingField(t reflect.Type, object map[string]json.RawMessage) string {
	for f := range t.Fields() {
		name, allowed := fieldName(f)
		switch {
		case name == "-":
		case name == "" && f.Anonymous:
			if scope := missingField(f.Type, object); scope != "" && !allowed {
				return scope
			}
		default:
			value, ok := object[name]
			if ok && string(value) == "null" && !nullable(f.Type) {
				ok = false
			}
			if !ok && !allowed {
				return name
			}
			if scope := missing(f.Type, value); ok && scope != "" {
				return strings.ReplaceAll(name+"."+scope, ".[", "[")
			}
		}
	}
	return ""
}

// fieldName returns the name of a field in JSON, and whether it may be missing.
func fieldName(f reflect.StructField) (name string, allowed bool) {
	name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
	if name == "" && !f.Anonymous || !f.IsExported() && !f.Anonymous {
		return "-", true
	}
	return name, strings.Contains(options, "omit") || f.Type.Kind() == reflect.Pointer || f.Tag.Get("answer") == "optional"
}

func hasField(t reflect.Type, name string) bool {
	for f := range t.Fields() {
		if found, _ := fieldName(f); found == name || found == "" && f.Anonymous && hasField(f.Type, name) {
			return true
		}
	}
	return false
}

func holdsStructs(t reflect.Type) bool {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	return t.Kind() == reflect.Struct && t != timeType
}

// nullable reports whether null is a value of a type, such as an empty list.
func nullable(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Interface:
		return true
	}
	return false
}
