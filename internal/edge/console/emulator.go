package console

import (
	"cmp"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/qrjump/qrjump/client"
)

// routes returns the handlers of the emulator pages.
func (pages emulatorPages) routes() map[string]func(*request) {
	return map[string]func(*request){
		"GET /console/emulator":  pages.emulator,
		"POST /console/emulator": pages.changeEmulator,
	}
}

type emulatorView struct {
	Clock     client.Clock
	Faults    []client.FaultInForce
	Platforms []client.Component
	Seed      string          // a seed that was not applied, or that is invalid
	SeedFault string          // the error in the seed
	Planted   *client.Planted // the result of an applied seed
}

func (pages emulatorPages) emulator(v *request) { pages.showEmulator(v, http.StatusOK, emulatorView{}) }

func (pages emulatorPages) showEmulator(v *request, status int, data emulatorView) {
	if !v.c.Emulates {
		v.fault(http.StatusNotFound, v.say("fault.nowhere"))
		return
	}
	ctx := v.ctx()
	if v.failed(storeResult(&data.Clock)(v.api.Emulator.GetClock(ctx))) ||
		v.failed(storeResult(&data.Faults)(v.api.Emulator.ListFaults(ctx))) {
		return
	}
	// The list stays empty for a visitor who is limited to some accounts, because such visitors may not see platforms.
	data.Platforms, _ = v.api.Components.List(ctx, "", 20)
	v.show(status, "emulator", data)
}

// faultForm parses the fault in a form; ok is false if the code is not a number or means success.
func faultForm(r *http.Request) (f client.Fault, ok bool) {
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
		Delay: strings.TrimSpace(r.FormValue("delay")), Count: integer("times")}
	switch r.FormValue("how") {
	case "drop":
		f.Drop = true
	case "drop_after":
		f.DropAfter = true
	case "delay":
	case "response":
		body := strings.TrimSpace(r.FormValue("body"))
		if !json.Valid([]byte(body)) { // a text
			text, err := json.Marshal(body)
			body, ok = string(text), ok && err == nil
		}
		f.Response = &client.FaultResponse{Status: integer("status"), Body: json.RawMessage(body)}
	default:
		f.After, f.ErrCode = r.FormValue("how") == "after", integer("errcode")
		ok = ok && f.ErrCode != 0
	}
	if text := strings.TrimSpace(r.FormValue("percent")); text != "" {
		part, err := strconv.ParseFloat(text, 64)
		ok = ok && err == nil
		f.Probability = new(part / 100)
	}
	return f, ok
}

// mostSeed is the maximum size of a submitted seed in bytes. Longer seeds are loaded with serve --seed.
const mostSeed = 1 << 20

// addSeed applies an uploaded or typed seed and shows the result.
func (pages emulatorPages) addSeed(v *request) {
	data := emulatorView{Seed: v.r.FormValue("text")}
	if file, _, err := v.r.FormFile("file"); err == nil {
		text, err := io.ReadAll(io.LimitReader(file, mostSeed+1))
		_ = file.Close()
		if err == nil && len(text) > 0 {
			data.Seed = string(text)
		}
	}
	refuse := func(status int, reason string) {
		data.SeedFault = reason
		pages.showEmulator(v, status, data)
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
	done, err := v.api.Emulator.Seed(v.ctx(), data.Seed)
	if said, is := refused(err, http.StatusUnprocessableEntity, http.StatusRequestEntityTooLarge); is {
		refuse(said.Status, v.said(said))
		return
	}
	if !v.failed(err) {
		pages.showEmulator(v, http.StatusOK, emulatorView{Planted: &done})
	}
}

func (pages emulatorPages) changeEmulator(v *request) {
	v.r.Body = http.MaxBytesReader(v.w, v.r.Body, 4*mostSeed)
	form := v.r.FormValue
	ctx, err := v.ctx(), error(nil)
	switch form("did") {
	case "advance":
		d, wrong := time.ParseDuration(form("advance"))
		if wrong != nil {
			v.fault(http.StatusUnprocessableEntity, v.say("emulator.advance.form"))
			return
		}
		err = v.api.Emulator.Advance(ctx, d)
	case "set":
		t, wrong := moment(form("now"))
		if wrong != nil {
			v.fault(http.StatusUnprocessableEntity, v.say("scan.fault.at"))
			return
		}
		err = v.api.Emulator.SetClock(ctx, t)
	case "freeze":
		err = v.api.Emulator.FreezeClock(ctx)
	case "run":
		err = v.api.Emulator.ResumeClock(ctx)
	case "real":
		err = v.api.Emulator.FollowRealTime(ctx)
	case "fault":
		f, ok := faultForm(v.r)
		if !ok {
			v.fault(http.StatusUnprocessableEntity, v.say("emulator.fault.form"))
			return
		}
		err = v.api.Emulator.CreateFault(ctx, f)
	case "remove":
		id, wrong := strconv.Atoi(form("id"))
		if wrong != nil || id <= 0 {
			v.fault(http.StatusUnprocessableEntity, v.say("fault.form"))
			return
		}
		err = v.api.Emulator.DeleteFault(ctx, id)
	case "clear":
		err = v.api.Emulator.DeleteFaults(ctx)
	case "chance":
		seed, wrong := strconv.ParseUint(cmp.Or(strings.TrimSpace(form("seed")), "0"), 10, 64)
		if wrong != nil {
			v.fault(http.StatusUnprocessableEntity, v.say("emulator.fault.form"))
			return
		}
		err = v.api.Emulator.ReseedFaults(ctx, seed)
	case "plant":
		pages.addSeed(v)
		return
	case "reset":
		if !v.sure("sure.reset", "reset") {
			return
		}
		err = v.api.Emulator.Reset(ctx)
	default:
		v.fault(http.StatusUnprocessableEntity, v.say("fault.form"))
		return
	}
	if !v.failed(err) {
		v.redirect(Root + "/emulator?done=emulator")
	}
}
