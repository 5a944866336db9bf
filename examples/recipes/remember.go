package recipes

import (
	"time"

	"example.com/sealed"
)

// Remember is for Config.TermsFor: a visitor who wants to be remembered has a cookie that
// outlives the browser, for 30 days; others one that ends with it, or after two idle hours.
func Remember(s Session) sealed.Terms {
	if s.User != "" && s.Remember {
		return sealed.Terms{Lifetime: 30 * 24 * time.Hour, Persistent: true}
	}
	return sealed.Terms{Lifetime: 24 * time.Hour, IdleTimeout: 2 * time.Hour}
}
