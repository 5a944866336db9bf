package app

import (
	"fmt"
	"html/template"
	"strconv"
	"strings"
)

// A product is something to buy. Prices are in cents.
type product struct {
	SKU   string
	Name  string
	Text  string
	Price int
	Art   template.HTML // an SVG, drawn below
}

// The print archive: numbered prints print-001 to print-500, and all of them at
// once, which is more than a cookie can hold.
const (
	prints     = 500
	printPrice = 900
	archiveSKU = "archive"
)

var catalogue = []product{
	{"mug", "Sealed mug", "Keeps what is inside, inside.", 1400, mugArt},
	{"tee", "Cookie tee", "Soft cotton, eight bites a byte.", 2400, teeArt},
	{"book", "Nonce notebook", "Every page is used only once.", 1100, bookArt},
	{"lamp", "Key-light lamp", "Rotates. You stay logged in.", 4900, lampArt},
	{"wax", "Sealing wax", "For letters that nobody else opens.", 800, waxArt},
	{"cap", "Stateless cap", "Remembers nothing. Fits everyone.", 1900, capArt},
	{archiveSKU, "Print archive", "All 500 numbered prints at once. Try it: it is too much for a cookie.", prints * printPrice, archiveArt},
}

// lookUp returns the product of a SKU, also of a numbered print.
func lookUp(sku string) (product, bool) {
	for _, p := range catalogue {
		if p.SKU == sku {
			return p, true
		}
	}
	digits, ok := strings.CutPrefix(sku, "print-")
	n, err := strconv.Atoi(digits)
	if !ok || err != nil || n < 1 || n > prints || printSKU(n) != sku {
		return product{}, false
	}
	return product{SKU: sku, Name: "Print no. " + digits, Price: printPrice, Art: archiveArt}, true
}

func printSKU(n int) string { return fmt.Sprintf("print-%03d", n) }

// items returns what a SKU puts into the cart.
func items(sku string, qty int) []item {
	if sku != archiveSKU {
		return []item{{SKU: sku, Qty: qty}}
	}
	all := make([]item, prints)
	for i := range all {
		all[i] = item{SKU: printSKU(i + 1), Qty: qty}
	}
	return all
}

const (
	mugArt     template.HTML = `<path d="M30 34h44v36a10 10 0 0 1-10 10H40a10 10 0 0 1-10-10z" fill="currentColor"/><path d="M74 42h8a9 9 0 0 1 9 9v4a9 9 0 0 1-9 9h-8" fill="none" stroke="currentColor" stroke-width="6"/><circle cx="52" cy="54" r="8" class="hole"/><rect x="49.5" y="54" width="5" height="14" rx="2" class="hole"/><path d="M42 26c0-5 5-5 5-10M56 26c0-5 5-5 5-10" fill="none" stroke="currentColor" stroke-width="3.5" stroke-linecap="round" opacity=".5"/>`
	teeArt     template.HTML = `<path d="M44 22h32l22 12-9 18-10-5v36a4 4 0 0 1-4 4H45a4 4 0 0 1-4-4V47l-10 5-9-18z" fill="currentColor"/><path d="M48 22a12 10 0 0 0 24 0z" class="hole"/><circle cx="60" cy="58" r="12" class="hole"/><circle cx="56" cy="55" r="2.2" fill="currentColor"/><circle cx="64" cy="59" r="2.2" fill="currentColor"/><circle cx="58" cy="64" r="2" fill="currentColor"/>`
	bookArt    template.HTML = `<rect x="34" y="20" width="54" height="64" rx="6" fill="currentColor"/><rect x="42" y="20" width="4" height="64" class="hole"/><path d="M56 38h22M56 48h22M56 58h14" stroke="var(--tile)" stroke-width="4" stroke-linecap="round"/><g fill="currentColor" stroke="var(--tile)" stroke-width="2"><circle cx="34" cy="32" r="4"/><circle cx="34" cy="45" r="4"/><circle cx="34" cy="58" r="4"/><circle cx="34" cy="71" r="4"/></g>`
	lampArt    template.HTML = `<path d="M42 20h36l14 30H28z" fill="currentColor"/><rect x="57" y="50" width="6" height="26" fill="currentColor"/><rect x="42" y="76" width="36" height="8" rx="4" fill="currentColor"/><path d="M38 60l-6 8M82 60l6 8" stroke="currentColor" stroke-width="4" stroke-linecap="round" opacity=".45"/><circle cx="60" cy="36" r="6" class="hole"/><rect x="58" y="38" width="4" height="10" rx="2" class="hole"/>`
	waxArt     template.HTML = `<path d="M24 36h72v44a4 4 0 0 1-4 4H28a4 4 0 0 1-4-4z" fill="currentColor" opacity=".35"/><path d="M24 36l36 28 36-28" fill="none" stroke="currentColor" stroke-width="5" stroke-linejoin="round"/><path d="M60 46c9-3 17 3 17 11 0 3 2 6-1 10-4 6-9 8-16 8s-13-3-16-9c-2-4 0-6 0-9 0-9 8-14 16-11z" fill="currentColor"/><circle cx="60" cy="60" r="7" class="hole"/>`
	capArt     template.HTML = `<path d="M30 62a30 30 0 0 1 60 0z" fill="currentColor"/><path d="M60 62h38c4 0 6 6 0 8H60z" fill="currentColor" opacity=".55"/><circle cx="60" cy="31" r="4" fill="currentColor"/><path d="M60 34v26" stroke="var(--tile)" stroke-width="3"/>`
	archiveArt template.HTML = `<rect x="40" y="18" width="52" height="52" rx="4" fill="currentColor" opacity=".3"/><rect x="34" y="25" width="52" height="52" rx="4" fill="currentColor" opacity=".5"/><rect x="28" y="32" width="52" height="52" rx="4" fill="currentColor"/><circle cx="66" cy="46" r="6" class="hole"/><path d="M32 78l16-20 11 12 8-9 10 17z" class="hole"/>`
)
