package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/urfave/cli/v2"

	"github.com/cgshim/cgshim/cmd/cgshim/internal/deliver"
	"github.com/cgshim/cgshim/cmd/cgshim/internal/flags"
	"github.com/cgshim/cgshim/cmd/cgshim/internal/signals"
	"github.com/cgshim/cgshim/shim"
)

// subcommands are words that dispatch knows, as first argument only.
var subcommands = slices.DeleteFunc(append([]string{"run"}, signals.Others...), func(word string) bool { return strings.HasPrefix(word, "-") })

func isSubcommand(word string) bool { return slices.Contains(subcommands, word) }

// completers write a shell's completion script from the flags.
var completers = map[string]func() string{"bash": bashCompletion, "zsh": zshCompletion, "fish": fishCompletion}

func printCompletion(args []string) int {
	if len(args) == 1 {
		if script, ok := completers[args[0]]; ok {
			return printOut(script())
		}
	}
	_ = deliver.Complain(&shim.ErrorInfo{Message: fmt.Sprintf("completion %s: want bash, zsh or fish", strings.Join(args, " "))})
	return shim.ExitFailed
}

// A flagHelp is what completion scripts say of a flag.
type flagHelp struct {
	names      []string // with their dashes
	usage      string
	takesValue bool
	kind       string // what its value is: a key of words, "file", "dir", "user", "device", or ""
}

// kinds are the values that a shell can complete.
var kinds = map[string]string{
	"chdir": "dir", "stdin": "file", "stdout": "file", "stderr": "file", "output": "file", "user": "user",
	"device-read-bps": "device", "device-write-bps": "device", "device-read-iops": "device", "device-write-iops": "device",
	"net": "net", "ulimit": "ulimit", "manager": "manager",
}

// words are the values of the kinds that have few.
func words(kind string) string {
	switch kind {
	case "net":
		return "none host"
	case "manager":
		return "auto cgroupfs systemd"
	case "ulimit":
		return strings.Join(slices.Sorted(slices.Values(shim.RlimitNames())), "= ") + "="
	}
	return ""
}

// batchHelps are the flags of "cgshim batch": batchFlags.
var batchHelps = []flagHelp{
	{names: []string{"--jobs"}, usage: "run N programs at a time (default: one for each CPU)", takesValue: true},
	{names: []string{"--pin"}, usage: "give each of them cores of its own"},
	{names: []string{"--events"}, usage: "write a line for each start, limit and sample, too"},
	{names: []string{"--parent"}, usage: "create the cgroups of the runs below CGROUP", takesValue: true},
	{names: []string{"--manager"}, usage: "WHO makes that parent: cgroupfs, systemd (a scope), or auto (default)", takesValue: true, kind: "manager"},
	{names: []string{"--nest"}, usage: "move whoever shares our cgroup into one below it, if the kernel wants that"},
}

// quotes are what neither a zsh spec nor a fish description may have inside.
var quotes = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile("[`'\\[\\]]") })

func flagHelps() []flagHelp {
	var list []flagHelp
	for _, f := range flags.Run() {
		doc := f.(cli.DocGenerationFlag)
		help := flagHelp{usage: quotes().ReplaceAllString(doc.GetUsage(), ""), takesValue: doc.TakesValue(), kind: kinds[f.Names()[0]]}
		for _, name := range f.Names() {
			help.names = append(help.names, dashed(name))
		}
		list = append(list, help)
	}
	return list
}

func dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

// selected are the names of those flags that something is true of.
func selected(list []flagHelp, sep string, wanted func(flagHelp) bool) string {
	var names []string
	for _, f := range list {
		if wanted(f) {
			names = append(names, f.names...)
		}
	}
	return strings.Join(names, sep)
}

func anyFlag(flagHelp) bool { return true }

func valued(f flagHelp) bool { return f.takesValue }

func ofKind(kind string) func(flagHelp) bool {
	return func(f flagHelp) bool { return f.kind == kind }
}

func bashCompletion() string {
	helps := flagHelps()
	return strings.NewReplacer(
		"@FLAGS@", selected(helps, " ", anyFlag),
		"@VALUED@", selected(helps, "|", valued),
		"@FILE@", selected(helps, "|", ofKind("file")),
		"@DIR@", selected(helps, "|", ofKind("dir")),
		"@USER@", selected(helps, "|", ofKind("user")),
		"@DEVICE@", selected(helps, "|", ofKind("device")),
		"@NET@", words("net"),
		"@ULIMIT@", words("ulimit"),
		"@MANAGER@", words("manager"),
		"@BATCH@", selected(batchHelps, " ", anyFlag),
		"@BATCH_VALUED@", selected(batchHelps, "|", valued),
		"@SUBCOMMANDS@", strings.Join(subcommands, " "),
	).Replace(`# bash completion for cgshim: source <(cgshim completion bash)
_cgshim() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} i=1 first=1
	COMPREPLY=()
	if ((COMP_CWORD == 2)) && [[ $prev == completion ]]; then
		COMPREPLY=($(compgen -W 'bash zsh fish' -- "$cur"))
		return
	fi
	if ((COMP_CWORD > 1)) && [[ ${COMP_WORDS[1]} == batch ]]; then
		case $prev in
		--manager) COMPREPLY=($(compgen -W '@MANAGER@' -- "$cur")) ;;
		@BATCH_VALUED@) ;;
		*) COMPREPLY=($(compgen -W '@BATCH@' -- "$cur")) ;;
		esac
		return
	fi
	[[ ${COMP_WORDS[1]} != run ]] || i=2
	# Where PROG is: the first word that is neither a flag nor a flag's value.
	for (( ; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		--)
			((i++))
			break
			;;
		@VALUED@) ((i++)) ;;
		=) ((i++)) ;;
		-*) ;;
		*) break ;;
		esac
	done
	if ((i < COMP_CWORD)) || { ((i == COMP_CWORD)) && [[ $prev == -- ]]; }; then
		if declare -F _command_offset >/dev/null; then
			_command_offset "$i"
		elif ((i == COMP_CWORD)); then
			COMPREPLY=($(compgen -c -- "$cur") $(compgen -f -- "$cur"))
		else
			COMPREPLY=($(compgen -f -- "$cur"))
		fi
		return
	fi
	case $prev in
	@FILE@) COMPREPLY=($(compgen -f -- "$cur")) ;;
	@DIR@) COMPREPLY=($(compgen -d -- "$cur")) ;;
	@USER@) COMPREPLY=($(compgen -u -- "$cur")) ;;
	@DEVICE@) COMPREPLY=($(compgen -f -- "${cur:-/dev/}")) ;;
	--net) COMPREPLY=($(compgen -W '@NET@' -- "$cur")) ;;
	--manager) COMPREPLY=($(compgen -W '@MANAGER@' -- "$cur")) ;;
	--ulimit)
		COMPREPLY=($(compgen -W '@ULIMIT@' -- "$cur"))
		compopt -o nospace 2>/dev/null
		;;
	@VALUED@) ;;
	*)
		COMPREPLY=($(compgen -W '@FLAGS@' -- "$cur"))
		if [[ $cur != -* ]]; then
			((COMP_CWORD > 1)) || COMPREPLY=($(compgen -W '@SUBCOMMANDS@' -- "$cur"))
			COMPREPLY+=($(compgen -c -- "$cur") $(compgen -f -- "$cur"))
		fi
		;;
	esac
}
complete -o filenames -F _cgshim cgshim
`)
}

func zshCompletion() string {
	actions := map[string]string{
		"file": "_files", "dir": "_files -/", "user": "_users", "device": "_files -W /dev", "net": "(" + words("net") + ")",
		"ulimit": "(" + words("ulimit") + ")", "manager": "(" + words("manager") + ")",
	}
	specs := func(list []flagHelp) string {
		var specs []string
		for _, f := range list {
			for _, name := range f.names {
				spec := "*" + name + "[" + f.usage + "]"
				if f.takesValue {
					spec += ":value:" + actions[f.kind]
				}
				specs = append(specs, "\t\t'"+strings.ReplaceAll(spec, ": then", "; then")+"'")
			}
		}
		return strings.Join(specs, " \\\n")
	}
	return strings.NewReplacer("@SPECS@", specs(flagHelps()), "@BATCH@", specs(batchHelps), "@SUBCOMMANDS@", strings.Join(subcommands, " ")).Replace(`#compdef cgshim
# zsh completion for cgshim: source <(cgshim completion zsh), after compinit
_cgshim() {
	if ((CURRENT == 2)) && [[ $words[2] != -* ]]; then
		compadd @SUBCOMMANDS@
		_command_names -e
		return
	fi
	if [[ $words[2] == completion ]]; then
		compadd bash zsh fish
		return
	fi
	if [[ $words[2] == batch ]]; then
		words[2]=()
		((CURRENT--))
		_arguments -S \
@BATCH@
		return
	fi
	if [[ $words[2] == run ]]; then
		words[2]=()
		((CURRENT--))
	fi
	_arguments -S \
@SPECS@ \
		'(-):program:_command_names -e' \
		'*::argument:_normal'
}
compdef _cgshim cgshim
`)
}

func fishCompletion() string {
	actions := map[string]string{
		"file": " -r -F", "dir": " -x -a '(__fish_complete_directories)'", "user": " -x -a '(__fish_complete_users)'",
		"device": " -r -F", "net": " -x -a '" + words("net") + "'", "ulimit": " -x -a '" + words("ulimit") + "'",
		"manager": " -x -a '" + words("manager") + "'", "": " -x",
	}
	var b strings.Builder
	b.WriteString(strings.NewReplacer(
		"@VALUED@", selected(flagHelps(), " ", valued),
		"@SUBCOMMANDS@", strings.Join(subcommands, " "),
	).Replace(`# fish completion for cgshim: cgshim completion fish | source
# The words from PROG on: the first that is neither a flag nor a flag's value.
function __cgshim_program
    set -l words (commandline -opc)
    set -e words[1]
    test "$words[1]" = run; and set -e words[1]
    while set -q words[1]
        switch $words[1]
            case --
                set -e words[1]
                break
            case '-*=*'
            case '-*'
                contains -- $words[1] @VALUED@; and set -e words[1]
            case '*'
                break
        end
        set -e words[1]
    end
    string escape -- $words
    set -q words[1]; or contains -- -- (commandline -opc)
end
function __cgshim_in_program
    __cgshim_program >/dev/null
end
function __cgshim_in_completion
    test (commandline -opc)[2] = completion 2>/dev/null
end
function __cgshim_in_batch
    test (commandline -opc)[2] = batch 2>/dev/null
end
complete -c cgshim -f
complete -c cgshim -n __fish_is_first_token -a '@SUBCOMMANDS@'
complete -c cgshim -n __cgshim_in_completion -a 'bash zsh fish'
complete -c cgshim -n '__cgshim_in_program; and not __cgshim_in_completion; and not __cgshim_in_batch' -a '(complete -C (string join " " -- (__cgshim_program) (commandline -ct)))'
complete -c cgshim -n 'not __cgshim_in_program' -a '(__fish_complete_command)'
`))
	list := func(condition string, helps []flagHelp) {
		for _, f := range helps {
			b.WriteString("complete -c cgshim -n '" + condition + "'" + fishOption(f, actions) + "\n")
		}
	}
	list("not __cgshim_in_program", flagHelps())
	list("__cgshim_in_batch", batchHelps)
	return b.String()
}

// fishOption is what fish is told of a flag.
func fishOption(f flagHelp, actions map[string]string) string {
	text := ""
	for _, name := range f.names {
		option := " -l "
		if !strings.HasPrefix(name, "--") {
			option = " -s "
		}
		text += option + strings.TrimLeft(name, "-")
	}
	if f.takesValue {
		text += actions[f.kind]
	}
	return text + " -d '" + f.usage + "'"
}
