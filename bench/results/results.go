// Package results has the figures of one run of the benchmark, as results.json keeps
// them. Names end with their units; a Spread is over the rounds of the run.
package results

import (
	"encoding/json"
	"os"
	"slices"
)

// Results are all figures of a run.
type Results struct {
	About       About
	InProcess   []Cost
	HTTP        []Load
	Network     []Distance
	Memory      []Memory
	Revocations []Revocations
	Following   []Following
	Wire        []Wire
	Idle        []Idle
	Outages     []Outage
	Losses      []Loss
	Sizes       []Size

	Node        []Load       `json:",omitempty"` // those of Node, and some of Go in the same rounds
	NodeCookies []CookieSize `json:",omitempty"`
	Protocols   []Protocol   `json:",omitempty"`
	Limit       []Cost       `json:",omitempty"`
}

// Protocol is a load over one protocol of HTTP.
type Protocol struct {
	Name string
	Load
}

// CookieSize is how long the Cookie header of the reference session is.
type CookieSize struct {
	Contender string
	Bytes     int
}

// About is where, when and with what the figures were made.
type About struct {
	Date      string // of its start
	Took      string
	Command   string
	OwnStores bool // they were started for the run, as they come; else taken by address
	Seed      uint64
	Rounds    int
	CPU       string
	Cores     int
	System    string
	Go        string
	Servers   []Version
	Packages  []Version
}

// Version is of a server or of a package.
type Version struct{ Name, Version string }

// A Spread is the median of some rounds, and the quartiles around it.
type Spread struct{ Median, Low, High float64 }

// NewSpread returns the spread of some values. That of none is zero.
func NewSpread(values []float64) Spread {
	if len(values) == 0 {
		return Spread{}
	}
	values = slices.Sorted(slices.Values(values))
	at := func(share float64) float64 {
		place := share * float64(len(values)-1)
		i := int(place)
		j := min(i+1, len(values)-1)
		return values[i] + (values[j]-values[i])*(place-float64(i))
	}
	return Spread{at(0.5), at(0.25), at(0.75)}
}

// Cost is of one operation, without a network before the application.
type Cost struct {
	Contender, Operation string
	NS                   Spread
	Bytes, Allocs        float64
}

// Load is what came of requests over HTTP, each connection waiting for its answer
// before the next request. A percentile without enough requests to tell is 0.
type Load struct {
	Contender, Operation string
	Connections          int
	PerSecond            Spread
	ServerCPUMicros      Spread // of the application's process, for a request
	StoreCPUMicros       Spread // of the store's processes, if they are known
	P50Micros            float64
	P99Micros            float64
	P999Micros           float64 `json:",omitempty"`
	Requests             int
}

// BusyConnections is with how many connections processor times are compared: the most
// that are fewer than a hundred, of which each waits long.
func BusyConnections(loads []Load) (n int) {
	for _, l := range loads {
		if l.Connections < 100 {
			n = max(n, l.Connections)
		}
	}
	return n
}

// Distance is what an operation costs when the store is some way off.
type Distance struct {
	Contender, Operation string
	RTTMillis            float64 // as asked for
	PingMillis           float64 // as measured: a PING of Redis through the same proxy
	Millis               Spread  // of one operation after the other, in process
	PerSecond            Spread  // over HTTP with 16 connections, where that was measured
	P99Micros            float64 `json:",omitempty"`
}

// Memory is what some live sessions take, beyond what there was without any.
type Memory struct {
	Contender string
	Sessions  int
	Heap      int64 // of the application, in use after a garbage collection
	RSS       int64 // of the application
	Store     int64 // what the store says it uses, or its processes' share of memory
	Disk      int64 // the table and its indexes
}

// NotMeasured is shown for what is not known of a server that was taken by its URL.
const NotMeasured = "not measured"

// StoreKnown reports whether Store was measured. That of a PostgreSQL that was taken
// by its URL is 0.
func (m Memory) StoreKnown() bool { return m.Store != 0 || m.Disk == 0 }

// Revocations is what some sessions that were ended early take.
type Revocations struct {
	Contender string
	Count     int
	Heap      int64
	Store     int64 // as of Redis
	Asked     int64 // bytes from the application to the store, to revoke and to follow
	Answered  int64 // and back
}

// Wire is the bytes of one request, and what it has to say to the store.
type Wire struct {
	Contender, Operation string
	Request, Cookie      int     // the whole request, and its Cookie header
	Response, SetCookie  int     // the whole response, and its Set-Cookie headers
	StoreAsked           float64 // bytes to the store
	StoreAnswered        float64 // and back
	StoreMessages        float64 // how often it asks
}

// Idle is what a contender has to say to its store while nobody visits.
type Idle struct {
	Contender         string
	AskedPerSecond    float64 // bytes
	AnsweredPerSecond float64
	MessagesPerSecond float64
}

// Following is what one logout takes where the list is on Redis, each some time after
// the one before, so that no two go together, unless it says otherwise. Processor time
// is that of programs that are busy, in microseconds.
type Following struct {
	Contender         string
	Logouts           int
	EveryMillis       float64
	RedisBytes        float64 // that Redis uses for one
	AppendBytes       float64 // between the instance that logs out and Redis, beyond hearing of it
	AppendMessages    float64
	AppendStoreMicros float64 // of Redis
	HearBytes         float64 // between each instance and Redis, to hear of it, beyond being idle
	HearMessages      float64
	AskMicros         float64 // of an instance, for one of its messages
	AskStoreMicros    float64 // of Redis, for the same

	Together   float64 // how many were heard of at once, when they came right after each other
	EntryBytes float64 // of HearBytes, what each of those took beyond being asked for
}

// Kinds of outages.
const (
	Refused = "refused" // connections to the store are refused: its process is down
	Silent  = "silent"  // packets vanish: its machine or the network is down
)

// Outage is what visitors meet while the store cannot be reached for a while.
type Outage struct {
	Contender   string
	Kind        string
	DownFrom    float64 // seconds from the start
	DownTo      float64
	Seconds     []Second
	SlowestDown float64 // the longest answer while the store was down, in milliseconds
}

// Second counts the visits that began in one second.
type Second struct {
	Served    int // of visitors who were logged in, and are
	LoggedOut int // who were logged in, and are strangers now
	Refused   int // 503
	Hung      int // no answer within two seconds, or still waiting for the one before
	Logins    int // of strangers, tried
	LoginsOK  int // of them, those who are logged in with their next request
}

// Visits is how many visitors came who were logged in.
func (s Second) Visits() int { return s.Served + s.LoggedOut + s.Refused + s.Hung }

// Loss is what became of visitors after the store lost its data, or the process that
// kept it was restarted.
type Loss struct {
	Contender      string
	What           string
	Visitors       int
	LoggedIn       int // of them
	Copies         int // of cookies whose sessions were logged out before
	CopiesAccepted int // of them
}

// Size is what sessions of one size cost.
type Size struct {
	Contender string
	Notes     int // bytes of text in the session, beside the rest
	Cookie    int // bytes of the Cookie header
	Cookies   int
	ReadNS    Spread
	ChangeNS  Spread
	ReadHTTP  Spread // requests a second with 16 connections
	Error     string `json:",omitempty"` // why there is none of this size
}

// Read reads results.json.
func Read(file string) (*Results, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	r := new(Results)
	err = json.Unmarshal(text, r)
	return r, err
}

// Write writes results.json.
func (r *Results) Write(file string) error {
	text, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}
