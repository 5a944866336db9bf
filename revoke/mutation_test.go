package revoke_test

import (
	"testing"

	"example.com/sealed/internal/mutation"
)

var mutations = mutation.Mutations{
	"a gap that is taken for silence":     {{"if errors.Is(err, ErrGap) {", "if errors.Is(err, ErrGap) {\nerr = nil\n}\nif errors.Is(err, ErrGap) {"}},
	"no rescan after a gap":               {{"age, err = r.readOn(ctx)\n\t\t}\n\t}\n\tif err == nil && r.clock", "_ = age\n\t\t}\n\t}\n\tif err == nil && r.clock"}},
	"a lost end is not given back":        {{"missing := r.history.rewind(i)", "missing := r.history.rewind(i)\nmissing = recent{}"}},
	"only the last half minute is":        {{"for _, p := range h.places[i:] {", "for _, p := range h.places[i:i+1] {"}},
	"what is being given back is dropped": {{"if r.restore == nil {\n\t\tr.history.reached", "if true {\n\t\tr.history.reached"}},
	"a place that is lost is gone on at":  {{"case errors.Is(err, ErrGap):\n\t\t\tcontinue", "case false:\n\t\t\tcontinue"}},
	"what is there is skipped":            {{"r.moveTo(at)\n\t\treturn nil", "p, err := r.readPage(ctx, at)\n\t\tr.moveTo(p.Cursor)\n\t\treturn err"}},
	"nothing is given back":               {{"if x.pass == nil {", "if r.restore = nil; r.restore == nil {\nreturn nil\n}\nif x.pass == nil {"}},
	"one pass is enough":                  {{"if x.appended == 0 {", "if true {"}},
	"staleness counted from the reply":    {{"r.confirm(began.Add(-age))", "r.confirm(time.Now())"}},
	"never stale":                         {{"return errStale\n\t}\n\treturn nil", "return nil\n\t}\n\treturn nil"}},
	"the first page is the whole":         {{"if !page.More {", "if true {"}},
	"acknowledged before the log has it":  {{"o.queue = append(o.queue, d)\n\to.wakeSender()", "o.queue = append(o.queue, d)\n\to.wakeSender()\n\td.answer(nil)"}, {"o.sent[key] == d {", "o.sent[key] == d && false {"}},
	"what was appended is not looked for": {{"if !d.at.IsZero() && d.at.Before(began) {", "if false {"}},
	"not refused where it was revoked":    {{"news, err := r.list.learn(v)\n\tif err != nil {\n\t\treturn nil, false, err\n\t}\n", "news := true\n"}},
	"ready before the end":                {{"case read == 0:\n\t\treturn errNotReady", "case read == 0:\n\t\treturn nil"}},
}

// Every mutation must fail the simulation, or that would prove nothing.
func TestSimulationCatchesMutations(t *testing.T) {
	mutation.Catch(t, "TestSimulation", mutations, "-seeds", "500")
}
