package console

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/qrjump/qrjump/client"
)

// emulatorPages are the pages of a server that emulates.
func (c *Console) emulatorPages() map[string]func(*visit) {
	return map[string]func(*visit){
		"GET /console/emulator":  c.emulator,
		"POST /console/emulator": c.changeEmulator,
	}
}

type emulatorView struct {
	Clock     client.Clock
	Faults    []client.FaultInForce
	Stubs     string // JSON
	Platforms []client.Component
	Seed      string          // a seed that is not applied, or that is wrong
	SeedFault string          // what is wrong with it
	Planted   *client.Planted // what became of one
}

func (c *Console) emulator(v *visit) { c.showEmulator(v, http.StatusOK, emulatorView{}) }

func (c *Console) showEmulator(v *visit, status int, data emulatorView) {
	if !c.Emulates {
		v.fault(http.StatusNotFound, v.say("fault.nowhere"))
		return
	}
	var faults struct{ Faults []client.FaultInForce }
	var stubs struct{ Stubs json.RawMessage }
	var platforms client.ComponentList
	if v.failed(v.ask("GET", "/emulator/clock", nil, &data.Clock)) || v.failed(v.ask("GET", "/emulator/faults", nil, &faults)) ||
		v.failed(v.ask("GET", "/emulator/stubs", nil, &stubs)) {
		return
	}
	// A visitor that is limited to accounts sees no platforms.
	if err := v.ask("GET", "/components?limit=20", nil, &platforms); err == nil {
		data.Platforms = platforms.Components
	}
	if data.Faults = faults.Faults; string(stubs.Stubs) != "[]" {
		data.Stubs = nice(string(stubs.Stubs))
	}
	v.show(status, "emulator", data)
}

// fault is the fault that a form asks for; ok is false for what is no number.
func faultForm(r *http.Request) (f client.Fault, number *int, ok bool) {
	ok = true
	integer := func(name string) int {
		text := strings.TrimSpace(r.FormValue(name))
		if text == "" {
			return 0
		}
		n, err := strconv.Atoi(text)
		ok = ok && err == nil
		return n
	}
	f = client.Fault{Path: strings.TrimSpace(r.FormValue("path")), AppID: strings.TrimSpace(r.FormValue("appid")),
		Delay: strings.TrimSpace(r.FormValue("delay")), Times: integer("times")}
	switch r.FormValue("how") {
	case "drop":
		f.Drop = true
	case "drop_after":
		f.DropAfter = true
	case "delay":
	case "after":
		f.After = true
		number = new(integer("errcode"))
	default:
		number = new(integer("errcode"))
	}
	if text := strings.TrimSpace(r.FormValue("percent")); text != "" {
		part, err := strconv.ParseFloat(text, 64)
		ok = ok && err == nil
		f.Probability = new(part / 100)
	}
	return f, number, ok
}

// mostSeed is how long a seed may be here, in bytes. For a longer one there is serve --seed.
const mostSeed = 1 << 20

// addSeed applies a seed that was sent or typed, and shows what became of it.
func (c *Console) addSeed(v *visit) {
	data := emulatorView{Seed: v.r.FormValue("text")}
	if file, _, err := v.r.FormFile("file"); err == nil {
		text, err := io.ReadAll(io.LimitReader(file, mostSeed+1))
		_ = file.Close()
		if err == nil && len(text) > 0 {
			data.Seed = string(text)
		}
	}
	refuse := func(status int, why string) {
		data.SeedFault = why
		c.showEmulator(v, status, data)
	}
	switch {
	case strings.TrimSpace(data.Seed) == "":
		refuse(http.StatusUnprocessableEntity, v.say("emulator.plant.none"))
		return
	case len(data.Seed) > mostSeed:
		data.Seed = ""
		refuse(http.StatusRequestEntityTooLarge, v.say("emulator.plant.large"))
		return
	}
	var done client.Planted
	err := v.ask("POST", "/emulator/seed", map[string]string{"seed": data.Seed}, &done)
	if said, ok := errors.AsType[refusal](err); ok && (said.Status == http.StatusUnprocessableEntity ||
		said.Status == http.StatusRequestEntityTooLarge) {
		refuse(said.Status, said.Detail)
		return
	}
	if !v.failed(err) {
		c.showEmulator(v, http.StatusOK, emulatorView{Planted: &done})
	}
}

func (c *Console) changeEmulator(v *visit) {
	v.r.Body = http.MaxBytesReader(v.w, v.r.Body, 4*mostSeed)
	form := v.r.FormValue
	var err error
	switch form("did") {
	case "advance":
		err = v.ask("PUT", "/emulator/clock", map[string]any{"advance": form("advance")}, nil)
	case "set":
		at, wrong := moment(form("now"))
		if wrong != nil {
			v.fault(http.StatusUnprocessableEntity, v.say("scan.fault.at"))
			return
		}
		err = v.ask("PUT", "/emulator/clock", map[string]any{"now": at}, nil)
	case "freeze":
		err = v.ask("PUT", "/emulator/clock", map[string]any{"freeze": true}, nil)
	case "run":
		err = v.ask("PUT", "/emulator/clock", map[string]any{"freeze": false}, nil)
	case "real":
		err = v.ask("PUT", "/emulator/clock", map[string]any{"real": true}, nil)
	case "fault":
		f, number, ok := faultForm(v.r)
		if !ok {
			v.fault(http.StatusUnprocessableEntity, v.say("emulator.fault.form"))
			return
		}
		err = v.ask("POST", "/emulator/faults", struct {
			client.Fault
			ErrCode *int `json:"errcode,omitempty"`
		}{f, number}, nil)
	case "remove":
		err = v.ask("DELETE", "/emulator/faults?id="+url.QueryEscape(form("id")), nil, nil)
	case "clear":
		err = v.ask("DELETE", "/emulator/faults", nil, nil)
	case "chance":
		err = v.ask("DELETE", "/emulator/faults?seed="+url.QueryEscape(strings.TrimSpace(form("seed"))), nil, nil)
	case "stubs":
		if !json.Valid([]byte(form("stubs"))) {
			v.fault(http.StatusUnprocessableEntity, v.say("emulator.stubs.form"))
			return
		}
		err = v.ask("PUT", "/emulator/stubs", map[string]json.RawMessage{"stubs": json.RawMessage(form("stubs"))}, nil)
	case "stubs-clear":
		err = v.ask("DELETE", "/emulator/stubs", nil, nil)
	case "plant":
		c.addSeed(v)
		return
	case "reset":
		if !v.sure("sure.reset", "reset") {
			return
		}
		err = v.ask("POST", "/emulator/reset", nil, nil)
	default:
		v.fault(http.StatusUnprocessableEntity, v.say("fault.form"))
		return
	}
	if !v.failed(err) {
		v.redirect(Root + "/emulator?done=emulator")
	}
}
