import type { DescService } from "@bufbuild/protobuf";
import { createServiceImplSpec, type ServiceImpl, type ServiceImplSpec } from "@connectrpc/connect";

/** Pairs a contract with its handlers, one for each method: a missing one does not compile. */
export function implement<Contract extends DescService>(contract: Contract, handlers: ServiceImpl<Contract>): ServiceImplSpec {
  return createServiceImplSpec(contract, handlers);
}
