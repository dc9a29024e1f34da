package codes

import (
	"context"
	"slices"
	"strings"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/domain/accounts"
)

// CodeName identifies one code by URL, by Code, or by ID and Index; find uses the first of these three that is given.
type CodeName struct {
	URL   string // the code text
	Code  string // the original code
	ID    int64  // application_id; 0 = absent
	Index int64
	// HasIndex reports whether an index was given.
	HasIndex bool
}

// Found is one code with its batch and its current state.
type Found struct {
	Batch Batch
	Index int64
	Code  string
	State State
}

// Get returns a code of the caller and its binding. Get returns 40097 if no code is named, 80303 for a text that is not a code, and
// 80300, 80301 or 80306 for an invalid application or index. Contract: marketcode §3.5.
func (s *Service) Get(ctx context.Context, caller accounts.Account, name CodeName) (Found, error) {
	if err := CheckPermission(caller); err != nil {
		return Found{}, err
	}
	f, err := s.find(ctx, name, func(b Batch) bool { return b.Account == caller.AppID })
	if err != nil {
		return Found{}, err
	}
	if name.ID != 0 && name.ID != f.Batch.ID {
		return Found{}, errcode.InvalidArgs.WithDetail(behaviour.CodesApplicationTwo, "application_id %d is not that of the code", name.ID)
	}
	if err := s.noteOrRefuseName(ctx, name, f); err != nil {
		return Found{}, err
	}
	return s.LookupConsistent(ctx, f)
}

// noteOrRefuseName applies NoteOrRefuse to a request that gives code_url in addition to code, or whose code or code_url differs from the
// printed one. noteOrRefuseName ignores a leading http://, which scanning apps may prepend to a text.
func (s *Service) noteOrRefuseName(ctx context.Context, name CodeName, f Found) error {
	cfg := s.Settings.Get()
	switch {
	case name.URL == "" && name.Code != "" && name.Code != f.Code:
		return cfg.NoteOrRefuse(ctx, behaviour.CodesQueryForm, "code is not as it is printed")
	case name.URL == "":
		return nil
	case name.Code != "":
		if err := cfg.NoteOrRefuse(ctx, behaviour.CodesQueryTwo, "code and code_url are given"); err != nil {
			return err
		}
	}
	_, text, err := s.Print(ctx, f.Batch, f.Index)
	if err == nil && strings.TrimPrefix(name.URL, "http://") != strings.TrimPrefix(text, "http://") {
		err = cfg.NoteOrRefuse(ctx, behaviour.CodesQueryForm, "code_url is not as it is printed")
	}
	return err
}

// LookupConsistent returns the code with all changes that any node has acknowledged so far; the state in f contains only the changes
// that this node has read. Scans do not use LookupConsistent, to avoid the delay of a store query.
func (s *Service) LookupConsistent(ctx context.Context, f Found) (Found, error) {
	if !s.Shared {
		return f, nil
	}
	if err := s.Memory.CatchUp(ctx, f.Batch.ID); err != nil {
		return Found{}, err
	}
	f.State = s.Memory.State(f.Batch.ID, f.Index, s.Now())
	return f, nil
}

// Lookup finds a code of any account for the operator.
func (s *Service) Lookup(ctx context.Context, name CodeName) (Found, error) {
	return s.find(ctx, name, func(Batch) bool { return true })
}

// find returns the code with the given name. For a batch that the caller may not see, find returns only 80301. A text that was
// never issued and a text that cannot exist receive the same error, so that guessing reveals nothing.
func (s *Service) find(ctx context.Context, name CodeName, visible func(Batch) bool) (Found, error) {
	var f Found
	switch {
	case name.URL != "":
		var ok bool
		var err error
		if f, ok, err = s.recognise(ctx, name.URL); err != nil {
			return f, err
		} else if !ok {
			return f, errcode.CodeMalformed.WithDetail(behaviour.CodesQueryText, "code_url invalid: it is no code text of this server")
		}
	case name.Code != "":
		all, err := s.allByCode(ctx, name.Code)
		if err != nil {
			return f, err
		}
		if f, err = chooseFound(all, name.ID, visible); err != nil {
			return f, err
		}
	case name.ID != 0:
		b, err := s.visibleBatch(ctx, name.ID, visible)
		if err != nil {
			return f, err
		}
		if !name.HasIndex {
			return f, errcode.InvalidArgs.WithDetail(behaviour.CodesQueryName, "code_index is missing: application_id alone names no code")
		}
		if name.Index < 0 {
			return f, errcode.InvalidArgs.WithDetail(behaviour.CodesRangeOrder, "code_index %d: an index is 0 or more", name.Index)
		}
		if name.Index >= b.Count {
			return f, errcode.IndexBeyond.WithDetail(behaviour.CodesRangeBeyond, "code_index %d: the application has the indexes 0 to %d",
				name.Index, b.Count-1)
		}
		f.Batch, f.Index = b, name.Index
	default:
		return f, errcode.InvalidArgs.WithDetail(behaviour.CodesQueryName,
			"application_id with code_index, code or code_url: one of them must be given")
	}
	if !visible(f.Batch) {
		return Found{}, errcode.NotOwnApplication.WithDetail(behaviour.CodesApplicationOther, "the code is another account's")
	}
	if f.Code == "" {
		var err error
		if f.Code, err = s.codeOf(ctx, f.Batch, f.Index); err != nil {
			return Found{}, err
		}
	}
	f.State = s.Memory.State(f.Batch.ID, f.Index, s.Now())
	return f, nil
}

// codeOf returns the original code of an index of a batch. For batches that this server created, codeOf does not read the store.
func (s *Service) codeOf(ctx context.Context, b Batch, index int64) (code string, err error) {
	if !b.Imported {
		return s.Code(b, index), nil
	}
	code, _, err = s.Print(ctx, b, index)
	return code, err
}

// chooseFound selects one of several codes with the same original code: first by the batches that the caller may see, then by the
// application that the caller named. chooseFound returns 40097 if two codes remain.
func chooseFound(all []Found, id int64, visible func(Batch) bool) (Found, error) {
	if len(all) == 0 {
		return Found{}, errcode.CodeMalformed.WithDetail(behaviour.CodesQueryText, "code invalid: not a code of this server")
	}
	for _, allowed := range []func(Found) bool{func(f Found) bool { return visible(f.Batch) },
		func(f Found) bool { return f.Batch.ID == id }} {
		if founds := slices.DeleteFunc(slices.Clone(all), func(f Found) bool { return !allowed(f) }); len(founds) > 0 {
			all = founds
		}
	}
	if len(all) > 1 {
		return Found{}, errcode.InvalidArgs.WithDetail(behaviour.CodesQueryName,
			"%d applications have a code with these characters: give application_id too, or code_url", len(all))
	}
	return all[0], nil
}

// prefixes returns the prefixes of the code texts of all batches and, if the server accepts applications, the prefix of new batches.
func (s *Service) prefixes() []string {
	if s.Closed {
		return s.Memory.Prefixes("")
	}
	return s.Memory.Prefixes(s.Prefix)
}

// PrefixOf returns the longest code text prefix with which text begins; "" = none, or s is nil.
func (s *Service) PrefixOf(text string) (longest string) {
	if s == nil {
		return ""
	}
	for _, prefix := range s.prefixes() {
		if len(prefix) > len(longest) && HasPrefix(text, prefix) {
			longest = prefix
		}
	}
	return longest
}

// byText finds the code of a code text in any of its spellings.
func (s *Service) byText(text string) (f Found, ok bool) {
	t, err := ParseText(text, s.prefixes())
	if err != nil {
		return f, false
	}
	key := s.Keys.Text[t.Version]
	if key == nil {
		return f, false
	}
	counter, ok := key.Counter(t.Symbols, t.Version)
	if !ok {
		return f, false
	}
	f.Batch, f.Index, ok = s.Memory.Find(counter)
	// A text is valid only with the version and the format with which its batch was printed.
	return f, ok && f.Batch.Version == t.Version && f.Batch.Template == ""
}

// ownByCode finds the code with the given original code of nine characters.
func (s *Service) ownByCode(text string) (f Found, ok bool) {
	if len(text) != CodeLength {
		return f, false // the length is checked before the conversion, because some letters change their length in upper case
	}
	code, ok := ParseCode(strings.ToUpper(text))
	if !ok {
		return f, false
	}
	counter, ok := s.Keys.Code.Counter(code)
	if !ok {
		return f, false
	}
	f.Batch, f.Index, ok = s.Memory.Find(counter)
	return f, ok
}
