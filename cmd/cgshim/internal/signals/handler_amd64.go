package signals

// restoreSignal is the address that the handler returns to. On amd64, the kernel wants to be given one.
var restoreSignal uintptr

func handlerAction(handler uintptr) *sigaction {
	return &sigaction{handler: handler, flags: saSigInfo | saOnStack | saRestart | saRestorer, restorer: restoreSignal}
}
