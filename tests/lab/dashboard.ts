// The type of monitoring/grafana-dashboard.json, out of Grafana's own schema. `DASHBOARD` is put in by the test.
import type { Dashboard, DataQuery, DataSourceRef, FieldConfigSource, GraphFieldConfig, Panel, RowPanel, TableFieldOptions } from "@grafana/schema";
import type { Options as StatOptions } from "@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen";
import type { Options as TableOptions } from "@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen";
import type { Options as GraphOptions } from "@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen";

// JSON writes the members of a string enum as their values.
type Written<T> = T extends string ? `${T}` : T extends readonly (infer U)[] ? Written<U>[] : T extends object ? { [K in keyof T]: Written<T[K]> } : T;

type Query = Required<Pick<DataQuery, "refId">> & {
  datasource: DataSourceRef;
  expr: string;
  legendFormat: string;
  format?: "time_series" | "table" | "heatmap";
  instant?: boolean;
  range?: boolean;
};
type Of<Type extends string, Options, Custom> = Omit<Panel, "type" | "options" | "fieldConfig" | "targets"> & {
  type: Type;
  title: string;
  description: string;
  options: Options;
  fieldConfig: Omit<FieldConfigSource, "defaults"> & {
    defaults: Omit<FieldConfigSource["defaults"], "custom"> & { custom?: Partial<Custom> };
  };
  targets: Query[];
};
type Board = Omit<Dashboard, "panels"> & {
  panels: (RowPanel | Of<"timeseries", GraphOptions, GraphFieldConfig> | Of<"stat", StatOptions, never> | Of<"table", Partial<TableOptions>, TableFieldOptions>)[];
};

export const plain: Written<Dashboard> = DASHBOARD;
export const board: Written<Board> = DASHBOARD;
