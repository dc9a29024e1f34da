package console

import "maps"

// The groups of console pages. Each type holds the handlers of its pages and their private helpers; a handler receives its state as
// a *request.
type (
	accountPages   struct{}
	agreePages     struct{}
	alarmPages     struct{}
	appPages       struct{}
	bulkPages      struct{}
	callPages      struct{}
	codePages      struct{}
	componentPages struct{}
	emulatorPages  struct{}
	findPages      struct{}
	gs1Pages       struct{}
	homePages      struct{}
	numberPages    struct{}
	operatePages   struct{}
	orderPages     struct{}
	packagePages   struct{}
	peoplePages    struct{}
	platformPages  struct{}
	rulePages      struct{}
	scanPages      struct{}
	selectedPages  struct{}
	selfPages      struct{}
)

// pageGroup is a group of pages that returns its handlers for signed-in people by route pattern.
type pageGroup interface {
	routes() map[string]func(*request)
}

var pageGroups = []pageGroup{accountPages{}, agreePages{}, alarmPages{}, appPages{}, bulkPages{}, callPages{}, codePages{},
	componentPages{},
	emulatorPages{}, findPages{}, gs1Pages{}, homePages{}, numberPages{}, operatePages{}, orderPages{}, packagePages{}, peoplePages{},
	platformPages{},
	rulePages{}, scanPages{}, selectedPages{}, selfPages{}}

// routes returns the handlers of all groups by route pattern.
func routes() map[string]func(*request) {
	all := map[string]func(*request){}
	for _, group := range pageGroups {
		maps.Copy(all, group.routes())
	}
	return all
}
