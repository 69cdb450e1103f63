import java.lang.reflect.Method;
import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.SQLFeatureNotSupportedException;
import java.util.Properties;
import java.util.TreeMap;

/** Calls every method of DatabaseMetaData, prints each value and the number of rows, and what failed. */
public class Metadata {
    static final TreeMap<String, Integer> rows = new TreeMap<>();

    static void call(Object on, Method method, Object... with) {
        try {
            Object found = method.invoke(on, with);
            if (!(found instanceof ResultSet)) return;
            ResultSet set = (ResultSet) found;
            int count = 0, width = set.getMetaData().getColumnCount();
            StringBuilder line = new StringBuilder();
            while (set.next()) {
                count++;
                for (int i = 1; i <= width; i++) line.append(set.getString(i)).append(' ');
            }
            set.close();
            System.out.println(line);
            rows.merge(method.getName(), count, Integer::sum);
        } catch (Exception error) {
            Throwable cause = error.getCause() == null ? error : error.getCause();
            if (!(cause instanceof SQLFeatureNotSupportedException))
                System.out.println("FAILED " + method.getName() + " " + String.valueOf(cause.getMessage()).replace('\n', ' '));
        }
    }

    public static void main(String[] args) throws Exception {
        Properties with = new Properties();
        with.put("user", args[1]);
        with.put("password", args[2]);
        for (String mode : new String[] {"extended", "simple"}) {
            with.put("preferQueryMode", mode);
            Connection connection = DriverManager.getConnection("jdbc:postgresql://127.0.0.1:" + args[0] + "/shop", with);
            DatabaseMetaData data = connection.getMetaData();
            String[] tables = {"customers", "orders", "%"};
            for (Method method : DatabaseMetaData.class.getMethods()) {
                String name = method.getName();
                if (method.getParameterCount() == 0) call(data, method);
                for (String table : tables) {
                    switch (name) {
                        case "getTables", "getUDTs", "getColumnPrivileges", "getFunctionColumns", "getProcedureColumns",
                                "getAttributes", "getColumns", "getPseudoColumns" -> call(data, method, null, "app", table, null);
                        case "getPrimaryKeys", "getImportedKeys", "getExportedKeys", "getVersionColumns", "getTablePrivileges",
                                "getProcedures", "getFunctions", "getSuperTables", "getSuperTypes" ->
                                call(data, method, null, "app", table);
                        case "getIndexInfo" -> call(data, method, null, "app", table, false, true);
                        case "getBestRowIdentifier" -> call(data, method, null, "app", table, 1, true);
                        case "getCrossReference" -> call(data, method, null, "app", "customers", null, "app", "orders");
                        case "getSchemas" -> { if (method.getParameterCount() == 2) call(data, method, null, "a%"); }
                        default -> { }
                    }
                }
            }
            connection.close();
        }
        rows.forEach((name, count) -> System.out.println("ROWS " + name + " " + count));
    }
}
