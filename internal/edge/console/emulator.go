package console

import (
	"cmp"
	"encoding/json"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/qrjump/qrjump/client"
)

type emulatorView struct {
	Clock      client.Clock
	Faults     []client.ActiveFault
	Platforms  []client.Component
	SeedResult *client.SeedResult // the result of an applied seed
	New        client.Fault
}

func (pages operatePages) showEmulator(v *request, data emulatorView) error {
	if !v.c.Emulates {
		return v.nowhere()
	}
	ctx := v.ctx()
	err := cmp.Or(storeResult(&data.Clock)(v.api.Emulator.GetClock(ctx)), storeResult(&data.Faults)(v.api.Emulator.ListFaults(ctx)))
	data.New = client.Fault{Path: "/cgi-bin/wxopen/qrcodejumppublish", ErrCode: -1}
	// The list stays empty for a visitor who is limited to some accounts, because such visitors may not see platforms.
	data.Platforms, _ = v.api.Components.List(ctx, "", 20)
	return v.page("emulator", data, err)
}

// faultForm parses the fault in a form; ok is false if a number is invalid or the code means success.
func (v *request) faultForm() (f client.Fault, ok bool) {
	faults := v.decode(&f, "path appid delay remaining")
	ok = true
	switch how := v.word("how"); how {
	case "drop":
		f.Drop = true
	case "drop_after":
		f.DropAfter = true
	case "delay":
	case "response":
		f.Response = &client.FaultResponse{Body: json.RawMessage(v.word("body"))}
		maps.Copy(faults, v.decode(f.Response, "status"))
		if !json.Valid(f.Response.Body) { // a text
			f.Response.Body, _ = json.Marshal(v.word("body")) // encoding a string cannot fail
		}
	default:
		f.After = how == "after"
		f.ErrCode, _ = strconv.Atoi(v.word("errcode"))
		ok = f.ErrCode != 0
	}
	if text := v.word("percent"); text != "" {
		part, err := strconv.ParseFloat(text, 64)
		ok = ok && err == nil
		f.Probability = new(part / 100)
	}
	return f, ok && len(faults) == 0
}

// maxSeedSize is the maximum size of a submitted seed in bytes. Longer seeds are loaded with serve --seed.
const maxSeedSize = 1 << 20

// addSeed applies an uploaded or typed seed and shows the result.
func (pages operatePages) addSeed(v *request) error {
	seed, err := v.upload("file", "text", maxSeedSize, v.say("emulator.plant.large"))
	if err != nil {
		return err
	}
	if strings.TrimSpace(seed) == "" {
		return v.refuse(http.StatusUnprocessableEntity, "text", v.say("emulator.plant.none"))
	}
	done, err := v.api.Emulator.Seed(v.ctx(), seed)
	if said, is := refused(err, http.StatusUnprocessableEntity, http.StatusRequestEntityTooLarge); is {
		v.r.PostForm.Set("text", seed)
		return v.refuse(said.Status, "text", v.problemText(said))
	}
	return afterwards(err, func() error { return pages.showEmulator(v, emulatorView{SeedResult: &done}) })
}

func (pages operatePages) changeEmulator(v *request) error {
	v.r.Body = http.MaxBytesReader(v.w, v.r.Body, 4*maxSeedSize)
	form, ctx := v.r.FormValue, v.ctx()
	return v.perform(Root+"/emulator?done=emulator", map[string]action{
		"advance": {call: func() error {
			d, err := time.ParseDuration(form("advance"))
			if err != nil {
				return v.reject("emulator.advance.form")
			}
			return v.api.Emulator.Advance(ctx, d)
		}},
		"set": {call: func() error {
			t, err := moment(form("now"))
			if err != nil {
				return v.reject("scan.fault.at")
			}
			return v.api.Emulator.SetClock(ctx, t)
		}},
		"freeze": {call: func() error { return v.api.Emulator.FreezeClock(ctx) }},
		"run":    {call: func() error { return v.api.Emulator.ResumeClock(ctx) }},
		"real":   {call: func() error { return v.api.Emulator.FollowRealTime(ctx) }},
		"fault": {call: func() error {
			f, ok := v.faultForm()
			if !ok {
				return v.reject("emulator.fault.form")
			}
			return v.api.Emulator.CreateFault(ctx, f)
		}},
		"remove": {call: func() error {
			id, err := strconv.Atoi(form("id"))
			if err != nil || id <= 0 {
				return v.reject("fault.form")
			}
			return v.api.Emulator.DeleteFault(ctx, id)
		}},
		"clear": {call: func() error { return v.api.Emulator.DeleteFaults(ctx) }},
		"chance": {call: func() error {
			seed, err := strconv.ParseUint(cmp.Or(strings.TrimSpace(form("seed")), "0"), 10, 64)
			if err != nil {
				return v.reject("emulator.fault.form")
			}
			return v.api.Emulator.ReseedFaults(ctx, seed)
		}},
		"plant": {call: func() error { return pages.addSeed(v) }},
		"reset": {"sure.reset", "reset", func() error { return v.api.Emulator.Reset(ctx) }},
	})
}
