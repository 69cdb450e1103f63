import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.util.Properties;
import java.util.Scanner;

/** Logs in with the URL and the user of its arguments and the password from standard input, and asks one thing. */
public class Login {
    public static void main(String[] args) throws Exception {
        Properties with = new Properties();
        with.put("user", args[1]);
        with.put("password", new Scanner(System.in).nextLine());
        try (Connection connection = DriverManager.getConnection(args[0], with)) {
            ResultSet found = connection.createStatement().executeQuery("select count(*) from orders");
            found.next();
            System.out.println("ORDERS " + found.getInt(1));
        }
    }
}
