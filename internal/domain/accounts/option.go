package accounts

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
)

// optionValues lists the allowed values of each account option. Contract: rules §3.2.
var optionValues = map[string][]string{
	"location_report":  {"0", "1", "2"},
	"voice_recognize":  {"0", "1"},
	"customer_service": {"0", "1"},
}

// optionSets maps each option to its permission set; Mini Programs have no options. Contract: rules §3.2.
var optionSets = map[string]int{"location_report": 2, "voice_recognize": 1, "customer_service": 6}

// OptionSet returns the permission set of an option; 0 = the option does not exist.
func OptionSet(name string) int { return optionSets[name] }

// grantsOption returns 61007 unless the account granted the component the permission set of the option.
func (a Authorization) grantsOption(component, name string) error {
	caller := Caller{Account: a.Account, Component: component, sets: a.Sets}
	if a.Account.Kind == MiniProgram {
		caller.sets = nil
	}
	return caller.Granted(optionSets[name])
}

// validOptions returns an error that names an unknown option or an invalid value.
func (a Account) validOptions() error {
	for _, name := range slices.Sorted(maps.Keys(a.Options)) {
		switch allowed := optionValues[name]; {
		case allowed == nil:
			return Invalidf("account %s: options has %.40q: want %s", a.AppID, name,
				strings.Join(slices.Sorted(maps.Keys(optionValues)), ", "))
		case !slices.Contains(allowed, a.Options[name]):
			return Invalidf("account %s: options: %s is %.40q: want %s", a.AppID, name, a.Options[name], strings.Join(allowed, ", "))
		}
	}
	return nil
}

// Option returns the value of an account option to an authorised component. Option returns 40097 for an unknown option, 40013 if the
// account does not exist, 61003 if the account did not authorise the component, and 61007 if the grant lacks the option's permission set.
func (d *Service) Option(ctx context.Context, component, appid, name string) (string, error) {
	if optionValues[name] == nil {
		return "", errcode.InvalidArgs.WithDetail(behaviour.ComponentOption, "option_name is %.40q", name)
	}
	a, err := d.Authorization(ctx, component, appid)
	if err == nil {
		err = a.grantsOption(component, name)
	}
	if err != nil {
		return "", err
	}
	value, set := a.Account.Options[name]
	if !set {
		behaviour.Note(ctx, behaviour.ComponentOptionUnset)
		value = "0"
	}
	return value, nil
}

// SetOption sets an option of an account. SetOption returns 40097 for an unknown option or an invalid value, and the errors of Option.
func (d *Service) SetOption(ctx context.Context, component, appid, name, value string) error {
	if !slices.Contains(optionValues[name], value) {
		return errcode.InvalidArgs.WithDetail(behaviour.ComponentOption, "option_name is %.40q, option_value is %.40q", name, value)
	}
	return d.inAccount(ctx, appid, func(tx Tx) error {
		a, err := d.authorization(ctx, tx, component, appid)
		if err == nil {
			err = a.grantsOption(component, name)
		}
		if err != nil {
			return err
		}
		options := map[string]string{name: value}
		for peer, is := range a.Account.Options {
			if peer != name {
				options[peer] = is
			}
		}
		a.Account.Options = options
		return tx.PutAccount(ctx, a.Account)
	})
}
