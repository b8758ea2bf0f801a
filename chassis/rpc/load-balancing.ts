import { connectivityState, experimental, status } from "@grpc/grpc-js";
import { failures, fairMs } from "./failures.ts";

type Config = experimental.TypedLoadBalancingConfig;
type Helper = experimental.ChannelControlHelper;

const typeName = "parley_count_answers";

/**
 * Registers a load balancing policy about another one, to which it tells the end of a call as that of its replica:
 * a refusal is an answer, and so OK; of a call that was given up, or had too little time, nothing. gRPC's outlier detection takes all but OK
 * for a failure (gRFC A50), and would eject a replica that is asked for what there is not. Returns the policy's name.
 */
export function registerAnswerCounting(): string {
  if (!experimental.isLoadBalancerNameRegistered(typeName))
    experimental.registerLoadBalancerType(typeName, AnswerCounting, AnswerCountingConfig);
  return typeName;
}

class AnswerCountingConfig implements Config {
  readonly child: Config;

  constructor(child: Config) {
    this.child = child;
  }

  static createFromJson(json: { child_policy: Parameters<typeof experimental.selectLbConfigFromList>[0] }): AnswerCountingConfig {
    const child = experimental.selectLbConfigFromList(json.child_policy);
    if (child === null) throw new Error(`${typeName} knows no policy of its child_policy`);
    return new AnswerCountingConfig(child);
  }

  getLoadBalancerName(): string {
    return typeName;
  }

  toJsonObject(): object {
    return { [typeName]: { child_policy: [this.child.toJsonObject()] } };
  }
}

class AnswerCounting implements experimental.LoadBalancer {
  readonly #child: experimental.ChildLoadBalancerHandler;

  constructor(helper: Helper) {
    const updateState: Helper["updateState"] = (state, picker, error) =>
      helper.updateState(state, state === connectivityState.READY ? countingAnswers(picker) : picker, error);
    this.#child = new experimental.ChildLoadBalancerHandler(experimental.createChildChannelControlHelper(helper, { updateState }));
  }

  updateAddressList(...[endpoints, config, options, note]: Parameters<experimental.LoadBalancer["updateAddressList"]>): boolean {
    return config instanceof AnswerCountingConfig && this.#child.updateAddressList(endpoints, config.child, options, note);
  }

  exitIdle(): void {
    this.#child.exitIdle();
  }

  resetBackoff(): void {
    this.#child.resetBackoff();
  }

  destroy(): void {
    this.#child.destroy();
  }

  getTypeName(): string {
    return typeName;
  }
}

function countingAnswers(picker: experimental.Picker): experimental.Picker {
  return {
    pick(args) {
      const picked = picker.pick(args);
      const { onCallEnded } = picked;
      if (onCallEnded === null) return picked;
      const pickedMs = performance.now();
      return {
        ...picked,
        onCallEnded(code, details, metadata) {
          const hadTooLittleTime = code === status.DEADLINE_EXCEEDED && performance.now() - pickedMs < fairMs - 1;
          if (code === status.CANCELLED || hadTooLittleTime) return;
          onCallEnded(failures.has(Number(code)) ? code : status.OK, details, metadata);
        },
      };
    },
  };
}
