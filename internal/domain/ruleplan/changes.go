package ruleplan

import (
	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/rules"
)

// Changes are the steps of a plan as one change for each rule: of a delete and an add
// the rule that comes of both.
func Changes(owner string, steps []Step) []client.PlannedRule {
	at := map[string]int{}
	changes := []client.PlannedRule{}
	for _, one := range steps {
		link, _ := rules.ParseLink(one.Prefix)
		i, known := at[link.Key]
		if !known {
			i = len(changes)
			at[link.Key] = i
			changes = append(changes, client.PlannedRule{Owner: owner, Prefix: one.Prefix})
		}
		change := &changes[i]
		switch one.Do {
		case "delete":
			change.Do = client.PlanDelete
		case "publish":
			if change.Do == "" {
				change.Do = client.PlanPublish
			}
			change.Published = new(true)
		case "add", "edit":
			was := change.Do
			change.Do = client.PlanAdd
			if was == client.PlanDelete || one.Do == "edit" {
				change.Do = client.PlanEdit
			}
			change.Path, change.AppID = one.Draft.Path, one.Draft.AppID
			change.Occupy, change.OpenVersion = one.Draft.Occupy, int(one.Draft.OpenVersion)
			change.Prefix = one.Prefix // of a rule that is added again it may have another end
			if one.Do == "add" {
				change.Published = new(false) // unless a publish follows
			}
		}
	}
	return changes
}
