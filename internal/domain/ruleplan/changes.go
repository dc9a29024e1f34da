package ruleplan

import (
	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/rules"
)

// Changes returns the steps of a plan as one change per rule: a delete followed by an add becomes one edit.
func Changes(owner string, steps []Step) []client.PlannedRule {
	counts := map[string]int{}
	changes := []client.PlannedRule{}
	for _, step := range steps {
		link, _ := rules.ParseLink(step.Prefix)
		i, known := counts[link.Key]
		if !known {
			i = len(changes)
			counts[link.Key] = i
			changes = append(changes, client.PlannedRule{Owner: owner, Prefix: step.Prefix})
		}
		change := &changes[i]
		switch step.Action {
		case "delete":
			change.Action = client.PlanDelete
		case "publish":
			if change.Action == "" {
				change.Action = client.PlanPublish
			}
			change.Published = new(true)
		case "add", "edit":
			previous := change.Action
			change.Action = client.PlanAdd
			if previous == client.PlanDelete || step.Action == "edit" {
				change.Action = client.PlanEdit
			}
			change.Path, change.AppID = step.Draft.Path, step.Draft.AppID
			change.Occupy, change.OpenVersion = step.Draft.Occupy, int(step.Draft.OpenVersion)
			change.Prefix = step.Prefix // a rule that is deleted and added again may have a different ending of its prefix
			if step.Action == "add" {
				change.Published = new(false) // set to true if a publish step follows
			}
		}
	}
	return changes
}
